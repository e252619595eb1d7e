# The commands behind docs/results.md, under its titles. Run all of them from the project's folder with
# `bash -e docs/results.sh`, or copy single lines. Give the same line again after a stop: what is finished is not
# computed again.
mkdir -p results/digits results/my_images results/s2 results/laptop

# The main job
python train_search.py --space s2 --save results/supernet.pt --resume
python select.py --ckpt results/supernet.pt --save results/genotype.json --resume
python retrain.py --arch results/genotype.json --save results/network.pt --resume

# Table 4: NAS-Bench-201, on the digits
python reproduce.py table4 --method all --seeds 200 201 202 203 204 205 206 207 208 209 210 211 212 213 214 \
    --keep-every 4 --folder results/digits
python reproduce.py fig9 --ckpt results/digits/nb201-digits-epochs-0-2??.pt --tune-epochs 0 --folder results/untrained
python reproduce.py fig9 --ckpt results/digits/nb201-digits-alpha-bilevel-2??.pt --tune-epochs 0 --folder results/untuned
for seed in 200 201 202 203 204 205 206 207 208 209 210 211 212 213 214; do
    python select.py --ckpt results/digits/nb201-digits-alpha-bilevel-$seed.pt --alpha fixed --seed $seed --threads 1 \
        --save results/digits/pt-frozen-$seed.json --resume
done
python reproduce.py table4 --layers 1 --seeds 200 201 202 203 204 205 206 207 208 209 210 211 212 213 214 \
    --folder results/small

# Fig. 1: what α, masks and strength know
python analyze.py fig1 --ckpt results/digits/nb201-digits-epochs-0-2??.pt \
    results/digits/nb201-digits-alpha-bilevel-2??.epoch0??.pt --edges 6 --tune-epochs 0 --threads 1 \
    --save results/digits/curve.png --resume
python analyze.py fig1 --ckpt results/digits/nb201-digits-alpha-bilevel-2??.pt --edges 2 --tune-epochs 1 5 --threads 1 \
    --save results/digits/fig1.png --resume
python analyze.py fig1 --ckpt results/digits/nb201-digits-alpha-bilevel-20[0-4].pt --edges 1 --tune-epochs 1 20 \
    --threads 1 --save results/digits/tune20.png --resume

# Table 4: NAS-Bench-201, on CIFAR-10 images
python reproduce.py table4 --method DARTS --method DARTS+PT --method DARTS+PT-Mag --method "DARTS+PT (untrained)" \
    --method DARTS+random --metric accuracy --seeds 200 201 202 203 204 205 206 207 208 209 --dataset my_images \
    --preset laptop --layers 5 --image-size 8 --limit 1000 --epochs 60 --folder results/my_images/fresh --jobs 2
python reproduce.py table4 --method all --seeds 0 1 2 3 4 --dataset my_images --preset laptop --layers 5 \
    --image-size 8 --limit 1000 --epochs 60 --folder results/my_images/deep --jobs 2

# Masks on more images
python analyze.py fig1 --ckpt results/my_images/fresh/nb201-my_images-alpha-bilevel-20?.pt --edges 6 \
    --images 500 2000 8000 --tune-epochs 0 --threads 1 --save results/my_images/fresh/masks.png --resume
python analyze.py fig1 --ckpt results/my_images/fresh/nb201-my_images-epochs-0-20?.pt --edges 6 --images 2000 \
    --tune-epochs 0 --threads 1 --save results/my_images/fresh/untrained.png --resume
for seed in 200 201 202 203 204 205 206 207 208 209; do
    python select.py --ckpt results/my_images/fresh/nb201-my_images-alpha-bilevel-$seed.pt --metric accuracy \
        --tune-epochs 0 --seed $seed --threads 1 --save results/my_images/fresh/pt-tune0-$seed.json --resume
    python select.py --ckpt results/my_images/fresh/nb201-my_images-alpha-bilevel-$seed.pt --metric accuracy \
        --alpha fixed --seed $seed --threads 1 --save results/my_images/fresh/pt-frozen-$seed.json --resume
    python select.py --ckpt results/my_images/fresh/nb201-my_images-alpha-bilevel-$seed.pt --metric loss \
        --seed $seed --threads 1 --save results/my_images/fresh/pt-loss-$seed.json --resume
done
python analyze.py fig1 --ckpt results/digits/nb201-digits-alpha-bilevel-2??.pt --edges 6 --images 1000 --tune-epochs 0 \
    --threads 1 --save results/digits/masks.png --resume

# Fig. 4 and 8: selecting during the search
python reproduce.py fig4 --seeds 200 201 202 203 204 --keep-every 4 --folder results/digits
python reproduce.py fig4 --seeds 0 1 2 3 4 --dataset my_images --preset laptop --layers 5 --image-size 8 \
    --limit 1000 --epochs 60 --folder results/my_images/deep --jobs 2

# Fig. 9: how much tuning
python reproduce.py fig9 --ckpt results/digits/nb201-digits-alpha-bilevel-20[0-4].pt --tune-epochs 0 1 2 5 10 30 \
    --folder results/tuning

# Table 3: S2 and S4, on CIFAR-10 images
python reproduce.py table3 --run --space s2 --dataset my_images --preset laptop --method DARTS --method DARTS+PT \
    --method "DARTS+PT (fix α)" --method DARTS+PT-Mag --method DARTS+random --method "DARTS+PT (untrained)" \
    --seeds 200 201 202 203 204 205 206 207 208 209 \
    --retrain "--layers 5 --channels 8 --epochs 40" --folder results/laptop --jobs 2
python reproduce.py table3 --run --space s4 --dataset my_images --preset laptop --method DARTS --method DARTS+PT \
    --method DARTS+random --method "DARTS+PT (untrained)" --seeds 200 201 202 203 204 205 206 207 208 209 \
    --retrain "--layers 5 --channels 8 --epochs 40" --folder results/laptop --jobs 2
for space in s2 s4; do
    for seed in 200 201 202 203 204 205 206 207 208 209; do
        sed -E "s/skip_connect|noise/sep_conv_3x3/g" results/laptop/$space-my_images-darts-$seed.json \
            > results/laptop/$space-my_images-conv-$seed.json
        python retrain.py --arch results/laptop/$space-my_images-conv-$seed.json --layers 5 --channels 8 --epochs 40 \
            --seed $seed --threads 1 --save results/laptop/$space-my_images-conv-$seed.network.pt --resume
    done
done
for seed in 200 201 202 203 204 205 206 207 208 209; do
    sed "s/skip_connect/sep_conv_3x3/g" results/laptop/s2-my_images-darts-pt-$seed.json > results/laptop/ptconv-$seed.json
    python retrain.py --arch results/laptop/ptconv-$seed.json --layers 5 --channels 8 --epochs 40 --seed $seed \
        --threads 1 --save results/laptop/ptconv-$seed.network.pt --resume
done
for seed in 200 201 202 203 204 205 206 207 208 209; do
    python - $seed <<'END'  # a ResNet, trained as the cells
import sys
from pathlib import Path
import torch
import analyze, ptnas, runs
from data import load_data

seed = int(sys.argv[1])
torch.set_num_threads(1)
path = Path(f"results/laptop/s2-my_images-darts-{seed}.network.pt")
values = runs.load_checkpoint(path, "network")["settings"]
settings = ptnas.RetrainSettings.of(values)
data = load_data(values, torch.device("cpu"), 0, settings.cutout)
torch.manual_seed(runs.mix(seed))
training = ptnas.Training(analyze.Staged("ResNet", 2, 8, len(data.classes), data.channels), settings)
*_, last = ptnas.retrain(training, data.train, data.test)
print(f"ResNet-14, seed {seed}: test error {last['test_error']:.2f}%")
END
done

# Table 3: S1 and S3, what is chosen
for space in s1 s3; do
    python train_search.py --alpha bilevel --space $space --dataset my_images --preset laptop --seed 200 --threads 1 \
        --save results/laptop/$space-my_images-alpha-bilevel-200.pt --resume
    python select.py --ckpt results/laptop/$space-my_images-alpha-bilevel-200.pt --criterion magnitude --tune-epochs 0 \
        --seed 200 --threads 1 --save results/laptop/$space-my_images-darts-200.json --resume
    python select.py --ckpt results/laptop/$space-my_images-alpha-bilevel-200.pt --seed 200 --threads 1 \
        --save results/laptop/$space-my_images-darts-pt-200.json --resume
done

# What follows needs the supernets and cells of S2 above

# Fig. 2: what α prefers on S2, and what is stronger
for seed in 200 201 202; do
    python analyze.py fig2 --ckpt results/laptop/s2-my_images-alpha-bilevel-$seed.pt --tune-epochs 1 --repeats 2 \
        --threads 1 --save results/laptop/fig2-normal-$seed.png --resume
    python analyze.py fig2 --ckpt results/laptop/s2-my_images-alpha-bilevel-$seed.pt --cell reduce --tune-epochs 1 \
        --repeats 2 --threads 1 --save results/laptop/fig2-reduce-$seed.png --resume
done
python analyze.py fig2 --ckpt results/laptop/s2-my_images-alpha-bilevel-200.pt --cell reduce --tune-epochs 5 \
    --repeats 1 --threads 1 --save results/laptop/fig2-five-reduce-200.png --resume

# Fig. 3: the gap between α_skip and α_conv
python analyze.py fig3 results/digits/nb201-digits-alpha-bilevel-2??.jsonl --save results/digits/fig3.png
for seed in 0 1 2; do
    python train_search.py --alpha bilevel --space s2 --dataset my_images --preset paper --image-size 16 \
        --alpha-lr 0.0015 --keep-every 10 --seed $seed --threads 1 \
        --save results/s2/s2-my_images-alpha-bilevel-$seed.pt --resume
done
python analyze.py fig3 results/s2/s2-my_images-alpha-bilevel-[012].jsonl --save results/s2/fig3.png
python select.py --ckpt results/s2/s2-my_images-alpha-bilevel-0.pt --criterion magnitude --tune-epochs 0 --seed 0 \
    --threads 1 --save results/s2/s2-my_images-darts-0.json --resume
python select.py --ckpt results/s2/s2-my_images-alpha-bilevel-0.pt --tune-epochs 1 --seed 0 --threads 1 \
    --save results/s2/s2-my_images-darts-pt-0.json --resume
for seed in 200 201 202; do
    python train_search.py --alpha bilevel --space s2 --dataset my_images --preset laptop --layers 3 --seed $seed \
        --threads 1 --save results/laptop/s2-my_images-layers-3-$seed.pt --resume
    python train_search.py --alpha bilevel --space s2 --dataset my_images --preset laptop --layers 5 --seed $seed \
        --threads 1 --save results/laptop/s2-my_images-layers-5-$seed.pt --resume
done
python train_search.py --alpha bilevel --space s2 --dataset my_images --preset laptop --alpha-lr 0.0003 --seed 200 \
    --threads 1 --save results/laptop/s2-my_images-rate-200.pt --resume
python analyze.py fig3 results/laptop/s2-my_images-alpha-bilevel-20?.jsonl \
    results/laptop/s2-my_images-layers-?-20?.jsonl --save results/laptop/fig3.png

# Fig. 6: validation accuracy during the selection
python reproduce.py fig6 results/digits/nb201-digits-darts-pt-2??.jsonl \
    results/digits/nb201-digits-darts-pt-mag-2??.jsonl --save results/digits/fig6.png
python reproduce.py fig6 results/laptop/s2-my_images-darts-pt-20?.jsonl results/laptop/s2-my_images-darts-pt-mag-20?.jsonl \
    --save results/laptop/fig6.png
python select.py --ckpt results/laptop/s2-my_images-alpha-bilevel-200.pt --tune-epochs 5 --seed 200 --threads 1 \
    --save results/laptop/five-pt-200.json --resume
python select.py --ckpt results/laptop/s2-my_images-alpha-bilevel-200.pt --criterion magnitude --tune-epochs 5 \
    --seed 200 --threads 1 --save results/laptop/five-mag-200.json --resume

# Table 1: layers and edges change places
python analyze.py table1 --ckpt results/laptop/s2-my_images-alpha-bilevel-200.pt --shuffles 30 --threads 1 \
    --save results/laptop/table1.png --resume

# Cells
python analyze.py cells results/laptop/s2-my_images-darts-200.json results/laptop/s2-my_images-darts-pt-200.json \
    --save results/laptop/cells.png

# Your own images: a trial
python retrain.py --arch results/laptop/s2-my_images-darts-pt-200.json --seed 200 --threads 1 \
    --save results/laptop/network.pt --resume
