"""Train a supernet: DARTS (first or second order), SDARTS-RS, SGAS, or with α fixed at zero (Sec. 6.3 of the paper).

    python train_search.py --space s2                               # embedded digits, minutes on a laptop
    python train_search.py --space s2 --alpha fixed
    python train_search.py --space s2 --noise gaussian              # SDARTS-RS
    python train_search.py --space s2 --sgas perturbation           # SGAS+PT, which decides the edges as it goes
    python train_search.py --space s2 --dataset cifar10             # the paper's setting: use a GPU
    python train_search.py --space darts --dataset my_images --preset laptop --save mine.pt
    python train_search.py --space nb201 --dataset my_images --preset laptop --keep-every 5

Writes supernet.pt (for select.py), supernet.jsonl and supernet.png.
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
from genotypes import SPACES
from ptnas import Computing, Search, SearchSettings, Sgas


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = runs.Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", required=True, choices=tuple(SPACES))
    parser.add_argument("--alpha", choices=("bilevel", "fixed"), help="bilevel by default")
    parser.add_argument("--order", type=int, choices=(1, 2), help="of the α gradient, 1 by default")
    parser.add_argument(
        "--noise", choices=("none", "gaussian", "uniform"), help="SDARTS-RS: noise on softmax(α) while w is trained"
    )
    parser.add_argument(
        "--sgas", choices=("none", "magnitude", "perturbation"), help="SGAS: decide edges during the search, by this"
    )
    parser.add_argument("--alpha-lr", type=runs.positive, metavar="X", help="learning rate of α")
    parser.add_argument(
        "--keep-every", type=runs.whole(1), metavar="N", help="keep supernet.epochNNN.pt every N epochs"
    )
    runs.add_training_options(parser)
    runs.add_run_options(parser, save="supernet.pt")
    return parser.parse_args(argv)


def run(argv: Sequence[str] | None) -> None:
    args = parse(argv)
    dataset = args.dataset or "digits"
    if dataset == "imagenet":
        raise runs.UserError("imagenet is for retraining; search on one of the others or on a folder of images")
    space = SPACES[args.space]
    preset, values = runs.preset("search", args.preset, dataset, args.space)
    flags = ("layers", "channels", "epochs", "batch_size", "lr", "alpha", "order", "alpha_lr", "noise", "sgas")
    values = runs.overridden(values, args, *flags, "limit", "image_size")
    limit, image_size = values.pop("limit", None), values.pop("image_size", None)
    search = SearchSettings(**values)
    if space.family == "darts" and search.layers < 3:
        raise runs.UserError("argument --layers: a supernet with both kinds of cell needs 3 cells at least")
    if search.sgas != "none" and search.alpha == "fixed":
        raise runs.UserError(f"--sgas {search.sgas} orders the edges by α, and --alpha fixed keeps it at 0")
    settings = {
        "space": args.space,
        "dataset": dataset_name(dataset),
        "data": data_folder(args.data),
        "preset": preset,
        "seed": args.seed,
        "limit": limit,
        "image_size": image_size,
        **asdict(search),
    }
    device = runs.set_up(args)
    with runs.Run(args.save, "supernet", settings, args.resume, args.checkpoint_minutes) as result:
        if not result.finished:
            train(result, search, args, device)
    accuracy = result.records[-1]["valid_accuracy"]
    print(f"supernet {args.save}: space {args.space}, {search.epochs} epochs, validation accuracy {accuracy:.2f}%")


def train(result: runs.Run, search: SearchSettings, args: Namespace, device: torch.device) -> None:
    """Take what is left of the search."""
    settings, space = result.settings, SPACES[args.space]
    data = load_run_data(settings, device, args.workers)
    computing = runs.computing(args, device)
    runs.announce(settings | {"image_size": data.image_size, **runs.place(device), **computing})
    halves = data.halves(args.seed)
    runs.seed_step(args.seed)
    supernet = search.supernet(space, len(data.classes), data.channels)
    trained, evaluated = (search.epochs * count for count in (search.passes * len(halves[0]), len(halves[1])))
    runs.warn_if_long(device, settings["preset"], lambda: runs.seconds_needed(supernet, data, trained, evaluated))
    supernet.skeleton.computing = Computing(**computing)
    kind = Search if search.sgas == "none" else Sgas
    result.loop(
        kind(supernet.to(device), search, *halves),
        "epoch",
        show=lambda record: f"validation accuracy {record['valid_accuracy']:.2f}%",
        draw=lambda figure, records: plots.draw_search(figure, records, space),
        extra={
            "classes": list(data.classes),
            "channels": data.channels,
            "image_size": data.image_size,
            "images": [len(data.train), len(data.test)],
            "computing": runs.place(device) | computing,
        },
        keep_every=args.keep_every,
    )


def main(argv: Sequence[str] | None = None) -> int:
    return runs.command("train_search.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
