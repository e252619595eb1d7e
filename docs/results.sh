# The commands behind docs/results.md. Run all of them from the project's folder with `bash -e docs/results.sh`, or copy
# single lines. Give the same line again after a stop: what is finished is not computed again.

# The digits: about 2.5 hours on 2 cores.
mkdir -p results/digits results/my_images
python train_search.py --space s2 --save results/supernet.pt --resume
python select.py --ckpt results/supernet.pt --save results/genotype.json --resume
python retrain.py --arch results/genotype.json --save results/network.pt --resume
python reproduce.py table4 --method all --seeds 0 1 2 3 4 --folder results/digits
python reproduce.py table4 --seeds 100 101 102 103 104 105 106 107 108 109 --folder results/digits
python reproduce.py table4 --layers 1 --seeds 0 1 2 3 4 --folder results/small
python reproduce.py fig4 --seeds 0 1 2 3 4 --folder results/digits
python reproduce.py fig6 results/digits/nb201-*-darts-pt-[0-4].jsonl \
    results/digits/nb201-*-darts-pt-mag-[0-4].jsonl --save results/digits/fig6.png
python reproduce.py fig9 --ckpt results/digits/nb201-*-alpha-fixed-[0-4].pt --folder results/digits
python reproduce.py table3 --run --folder results/digits
python train_search.py --space darts --seed 0 --threads 1 --save results/digits/darts-0.pt --resume
python train_search.py --space darts --seed 1 --threads 1 --save results/digits/darts-1.pt --resume
python train_search.py --space darts --seed 2 --threads 1 --save results/digits/darts-2.pt --resume
python analyze.py fig1 --ckpt results/digits/darts-[0-2].pt --edges 6 --threads 1 --save results/digits/fig1.png --resume
python analyze.py fig2 --ckpt results/digits/s2-*-alpha-bilevel-0.pt --threads 1 --save results/digits/fig2.png --resume
python analyze.py table1 --ckpt results/digits/s2-*-alpha-bilevel-0.pt --threads 1 --save results/digits/table1.png \
    --resume
python analyze.py fig3 results/digits/nb201-*-alpha-bilevel-[0-4].jsonl --save results/digits/fig3.png
python analyze.py fig3 results/digits/s2-*-alpha-bilevel-[0-2].jsonl --save results/digits/fig3-s2.png

# The folder my_images, 12,000 images of CIFAR-10 as docs/results.md describes it: about 2.5 hours more.
python reproduce.py table4 --method all --seeds 0 1 2 3 4 --dataset my_images --preset laptop --layers 5 \
    --image-size 8 --limit 1000 --epochs 60 --folder results/my_images/deep --jobs 2
python reproduce.py table4 --seeds 0 1 2 3 4 --dataset my_images --preset laptop --folder results/my_images/shallow \
    --jobs 2
python reproduce.py fig4 --seeds 0 1 2 3 4 --dataset my_images --preset laptop --layers 5 --image-size 8 \
    --limit 1000 --epochs 60 --folder results/my_images/deep --jobs 2
python reproduce.py fig6 results/my_images/deep/nb201-*-darts-pt-[0-4].jsonl \
    results/my_images/deep/nb201-*-darts-pt-mag-[0-4].jsonl --save results/my_images/deep/fig6.png
python reproduce.py fig9 --ckpt results/my_images/deep/nb201-*-alpha-fixed-[0-4].pt --folder results/my_images/deep \
    --jobs 2
python reproduce.py table3 --run --dataset my_images --preset laptop --image-size 16 --folder results/my_images/s1-s4 \
    --jobs 2
python analyze.py fig1 --ckpt results/my_images/deep/nb201-*-alpha-bilevel-[0-4].pt --edges 6 --threads 1 \
    --save results/my_images/deep/fig1.png --resume
python analyze.py fig2 --ckpt results/my_images/s1-s4/s2-*-alpha-bilevel-0.pt --threads 1 \
    --save results/my_images/s1-s4/fig2.png --resume
python analyze.py table1 --ckpt results/my_images/s1-s4/s2-*-alpha-bilevel-0.pt --threads 1 \
    --save results/my_images/s1-s4/table1.png --resume
python analyze.py fig3 results/my_images/deep/nb201-*-alpha-bilevel-[0-4].jsonl --save results/my_images/deep/fig3.png
python train_search.py --space s2 --dataset my_images --preset laptop --image-size 20 --threads 1 \
    --save results/my_images/supernet.pt --resume
python select.py --ckpt results/my_images/supernet.pt --threads 1 --save results/my_images/genotype.json --resume
python retrain.py --arch results/my_images/genotype.json --threads 1 --save results/my_images/network.pt --resume
