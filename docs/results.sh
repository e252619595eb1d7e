# The commands behind docs/results.md. Run all of them from the project's folder with `bash -e docs/results.sh`, or copy
# single lines. Give the same line again after a stop: what is finished is not computed again.

# The digits.
mkdir -p results/digits results/my_images
python train_search.py --space s2 --save results/supernet.pt --resume
python select.py --ckpt results/supernet.pt --save results/genotype.json --resume
python retrain.py --arch results/genotype.json --save results/network.pt --resume
python reproduce.py table4 --method all --seeds 200 201 202 203 204 205 206 207 208 209 210 211 212 213 214 \
    --keep-every 4 --folder results/digits
python analyze.py fig1 --ckpt results/digits/nb201-digits-epochs-0-2??.pt \
    results/digits/nb201-digits-alpha-bilevel-2??.epoch0??.pt --edges 6 --tune-epochs 0 --repeats 1 --threads 1 \
    --save results/digits/curve.png --resume
python analyze.py fig1 --ckpt results/digits/nb201-digits-alpha-bilevel-2??.pt --edges 6 --tune-epochs 1 5 --threads 1 \
    --save results/digits/fig1.png --resume
python analyze.py fig1 --ckpt results/digits/nb201-digits-alpha-bilevel-20[0-4].pt --edges 6 --tune-epochs 20 \
    --threads 1 --save results/digits/fig1-20.png --resume
python reproduce.py fig9 --ckpt results/digits/nb201-digits-epochs-0-2??.pt --tune-epochs 0 --folder results/untrained
python reproduce.py table4 --layers 1 --seeds 200 201 202 203 204 205 206 207 208 209 210 211 212 213 214 \
    --folder results/small
python reproduce.py fig4 --seeds 200 201 202 203 204 --keep-every 4 --folder results/digits
python reproduce.py fig6 results/digits/nb201-digits-darts-pt-2??.jsonl results/digits/nb201-digits-darts-pt-mag-2??.jsonl \
    --save results/digits/fig6.png
python reproduce.py fig9 --ckpt results/digits/nb201-digits-alpha-bilevel-20[0-4].pt --tune-epochs 0 1 2 5 10 30 \
    --folder results/digits
python analyze.py fig3 results/digits/nb201-digits-alpha-bilevel-2??.jsonl --save results/digits/fig3.png
python train_search.py --space s2 --seed 200 --threads 1 --save results/digits/s2-200.pt --resume
python analyze.py fig2 --ckpt results/digits/s2-200.pt --repeats 3 --threads 1 --save results/digits/fig2.png --resume
python analyze.py table1 --ckpt results/digits/s2-200.pt --shuffles 30 --threads 1 --save results/digits/table1.png --resume
