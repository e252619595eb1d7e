"""Train a supernet: DARTS (first or second order), SDARTS-RS, SGAS, or with α fixed at zero (Sec. 6.3 of the paper).

    python train_search.py --space s2                               # embedded digits, minutes on a laptop
    python train_search.py --space s2 --alpha fixed
    python train_search.py --space s2 --epochs 0                    # an untrained supernet, to compare with
    python train_search.py --space s2 --noise uniform               # SDARTS-RS
    python train_search.py --space s2 --sgas perturbation           # SGAS+PT, which decides the edges as it goes
    python train_search.py --space s2 --dataset cifar10             # the paper's setting: use a GPU
    python train_search.py --space darts --dataset my_images --preset laptop --save mine.pt
    python train_search.py --space nb201 --dataset my_images --preset laptop --keep-every 5

Writes supernet.pt (for select.py), supernet.jsonl and, unless there are no epochs, supernet.png.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict

import torch

import plots
import runs
from data import ImageData, load_data
from genotypes import SPACES
from ptnas import Bilevel, SearchSettings, search, search_sgas


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = runs.Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", required=True, choices=tuple(SPACES))
    runs.add_settings(
        parser, SearchSettings, alpha="train α (default), or keep it at 0", order="of the gradient in α, 1 by default",
        noise="SDARTS-RS: distorts softmax(α)", sgas="SGAS: decide edges during the search, by this",
        alpha_lr="learning rate of α",
    )  # fmt: skip
    parser.add_argument("--keep-every", type=runs.whole(1), metavar="N", help="keep every Nth epoch")
    parser.add_argument("--no-flip", action="store_true", help="never mirror images: for letters, for example")
    runs.add_training_options(parser)
    runs.add_run_options(parser, save="supernet.pt")
    return parser.parse_args(argv)


def command(argv: Sequence[str] | None) -> None:
    args = parse(argv)
    dataset = args.dataset or "digits"
    if dataset == "imagenet":
        raise runs.UserError("imagenet is for retraining; search on one of the others or on a folder of images")
    preset, standard = runs.get_preset("search", args.preset, dataset, args.space)
    flags = ("layers", "channels", "epochs", "batch_size", "lr", "alpha", "order", "alpha_lr", "noise", "sgas", "amp")
    values = runs.override(standard, args, *flags, "limit", "image_size", "no_flip")
    settings = SearchSettings.of(values)
    if SPACES[args.space].family == "darts" and settings.layers < 3:
        raise runs.UserError("--layers: a supernet with both kinds of cell needs at least 3 cells")
    if settings.sgas != "none" and settings.alpha == "fixed":
        raise runs.UserError(f"--sgas {settings.sgas} orders the edges by α, and --alpha fixed keeps it at 0")
    reads = {"dataset": dataset, "data": args.data, "preset": preset, "seed": args.seed}
    reads = runs.RunSettings.of(values | reads)
    everything = {"space": args.space, **asdict(reads), **asdict(settings)}
    device = runs.set_up(args)
    with runs.Run(args.save, "supernet", everything, args.resume) as run:
        if not run.finished:
            data = load_data(everything, device, args.workers)
            images = f"{data.summary()} from {reads.dataset}"
            what = f"search on {args.space}, preset {preset}, seed {args.seed}, on {device}, {images}"
            runs.announce(what, asdict(SearchSettings.of(standard)) | standard, values, args.save)
            runs.warn_if_long(device, preset)
            if settings.sgas != "none" and not SPACES[args.space].has_none:
                runs.note(f"note: {args.space} has no `none`, so importance is constant and certainty orders the edges")
            train(run, settings, data, args, device)
    result = f"supernet {args.save}: space {args.space}, {settings.epochs} epochs"
    if run.records:
        result += f", validation accuracy {run.records[-1]['valid_accuracy']:.2f}%"
        result += " before the last decisions" if settings.sgas != "none" else ""
    print(result)


def train(run: runs.Run, settings: SearchSettings, data: ImageData, args: Namespace, device: torch.device) -> None:
    """Trains for the epochs that are left."""
    space = SPACES[args.space]
    torch.manual_seed(runs.mix(args.seed))
    supernet = settings.build_supernet(space, len(data.classes), data.channels, args.low_memory).to(device)
    bilevel = Bilevel(supernet, settings)
    run.begin(data.describe() | {"computing": runs.describe_machine(device)}, bilevel)

    def picture(figure: plots.Figure) -> None:
        plots.draw_search(figure, run.records, space)

    algorithm = search if settings.sgas == "none" else search_sgas
    for record in run.follow(algorithm(bilevel, *data.halve(args.seed)), settings.epochs, "epoch"):
        if args.keep_every and record["epoch"] % args.keep_every == 0:
            run.keep(runs.name_snapshot(run.checkpoint, record["epoch"]))
        run.keep()
        run.draw(picture)
    run.finish(picture if run.records else None)


def main(argv: Sequence[str] | None = None) -> int:
    return runs.run_command("train_search.py", command, argv)


if __name__ == "__main__":
    sys.exit(main())
