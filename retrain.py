"""Train the discrete network of an architecture from scratch and test it.

    python retrain.py --arch genotype.json
    python retrain.py --arch DARTS_V2 --dataset cifar10                             # the paper's setting: use a GPU
    python retrain.py --arch DARTS_V2 --dataset imagenet --data /path/to/folders    # folders train/ and val/
    python retrain.py --arch "Genotype(normal=[...], ...)" --dataset my_images --preset laptop
    python retrain.py --arch "|nor_conv_3x3~0|+|...|+|...|" --dataset cifar10       # a cell of NAS-Bench-201
    python retrain.py --arch DARTS_V2 --dataset cifar10 --preset paper --summary    # parameters and multiply-adds

Writes network.pt, network.jsonl and network.png.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict

import torch

import plots
import runs
from data import data_folder, dataset_name, load_run_data
from ptnas import Computing, Network, Retraining, RetrainSettings, count_multiply_adds, count_parameters

# What --summary assumes of a data set: classes, channels and size of its images
SHAPES = {
    "digits": (10, 1, 8),
    "cifar10": (10, 3, 32),
    "cifar100": (100, 3, 32),
    "svhn": (10, 3, 32),
    "imagenet16-120": (120, 3, 16),
    "imagenet": (1000, 3, 224),
}


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = runs.Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--arch", required=True, help="FILE.json, a published name, 'Genotype(...)', '|op~0|+...'")
    parser.add_argument("--summary", action="store_true", help="print the size of the network; needs no data")
    runs.add_training_options(parser)
    runs.add_run_options(parser, save="network.pt")
    return parser.parse_args(argv)


def run(argv: Sequence[str] | None) -> None:
    args = parse(argv)
    genotype, origin = runs.load_architecture(args.arch)
    dataset = args.dataset or origin.get("dataset", "digits")
    same = dataset_name(dataset) == origin.get("dataset")
    preset, values = runs.preset(
        "retrain", args.preset or (origin["preset"] if same else None), dataset, origin.get("space")
    )
    if same:
        values = {"image_size": origin["image_size"]} | values
    flags = ("layers", "channels", "epochs", "batch_size", "lr", "limit", "image_size")
    values = runs.overridden(values, args, *flags)
    limit, image_size = values.pop("limit", None), values.pop("image_size", None)
    how = RetrainSettings(**values)
    if origin.get("space") == "nb201" and dataset == "imagenet":
        raise runs.UserError("a network of NAS-Bench-201 has no ImageNet form; imagenet16-120 is made for it")
    settings = {
        "genotype": str(genotype),
        "dataset": dataset_name(dataset),
        "data": data_folder(args.data) or (origin.get("data") if same else None),
        "preset": preset,
        "seed": args.seed,
        "limit": limit,
        "image_size": image_size,
        **asdict(how),
    }
    if args.summary:
        summarise(genotype, how, dataset, image_size)
        return
    device = runs.set_up(args)
    with runs.Run(args.save, "network", settings, args.resume, args.checkpoint_minutes) as result:
        if not result.finished:
            train(result, genotype, origin, how, args, device)
    last = result.records[-1]
    top5 = f" (top-5 {last['test_error_top5']:.2f}%)" if "test_error_top5" in last else ""
    print(f"network {args.save}: {how.epochs} epochs, test error {last['test_error']:.2f}%{top5}")


def summarise(genotype: runs.Architecture, how: RetrainSettings, dataset: str, image_size: int | None) -> None:
    """Print parameters and multiply-adds of the network, without the auxiliary head as the paper counts."""
    if dataset not in SHAPES:
        raise runs.UserError(f"--summary needs no data and so knows {', '.join(SHAPES)}; name one with --dataset")
    classes, channels, own = SHAPES[dataset]
    network = Network(genotype, how.layers, how.channels, classes, channels, how.form)
    size = image_size or own
    print(
        f"{len(network.skeleton.cells)} cells, {how.channels} channels, {classes} classes: "
        f"{count_parameters(network):,} parameters, "
        f"{count_multiply_adds(network, channels, size):,} multiply-adds for an image of {size}x{size}"
    )


def train(
    result: runs.Run, genotype: runs.Architecture, origin: dict, how: RetrainSettings, args: Namespace,
    device: torch.device,
) -> None:  # fmt: skip
    """Take what is left of the training. `origin`: what is known of the search and selection of the genotype."""
    settings = result.settings
    data = load_run_data(settings, device, args.workers, how.cutout)
    computing = runs.computing(args, device)
    runs.announce(settings | {"image_size": data.image_size, **runs.place(device), **computing})
    runs.seed_step(args.seed)
    network = Network(
        genotype, how.layers, how.channels, len(data.classes), data.channels, how.form, auxiliary=how.auxiliary > 0
    )
    trained, evaluated = how.epochs * len(data.train), how.epochs * len(data.test)
    runs.warn_if_long(device, settings["preset"], lambda: runs.seconds_needed(network, data, trained, evaluated))
    network.skeleton.computing = Computing(**computing)
    size = count_parameters(network)
    title = f"{settings['dataset'].rsplit('/', 1)[-1]}: {len(network.skeleton.cells)} cells, {size:,} parameters"
    result.loop(
        Retraining(network.to(device), how, data.train, data.test),
        "epoch",
        show=lambda record: f"test error {record['test_error']:.2f}%",
        draw=lambda figure, records: plots.draw_retraining(figure, records, title),
        extra={
            "classes": list(data.classes),
            "channels": data.channels,
            "image_size": data.image_size,
            "images": [len(data.train), len(data.test)],
            "mean": data.train.mean.flatten().tolist(),
            "deviation": data.train.deviation.flatten().tolist(),
            "parameters": size,
            "computing": runs.place(device) | computing,
            "origin": {name: value for name, value in origin.items() if name != "decisions"},
        },
    )


def main(argv: Sequence[str] | None = None) -> int:
    return runs.command("retrain.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
