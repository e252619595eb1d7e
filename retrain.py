"""Train the discrete network of an architecture from scratch and test it.

    python retrain.py --arch genotype.json
    python retrain.py --arch DARTS_V2 --dataset cifar10                             # the paper's setting: use a GPU
    python retrain.py --arch DARTS_V2 --dataset imagenet --data /path/to/folders    # folders train/ and val/
    python retrain.py --arch "Genotype(normal=[...], ...)" --dataset my_images --preset laptop
    python retrain.py --arch search.log                                             # what another program printed
    python retrain.py --arch "|nor_conv_3x3~0|+|...|+|...|" --dataset cifar10       # a cell of NAS-Bench-201
    python retrain.py --arch DARTS_V2 --dataset cifar10 --preset paper --summary    # parameters and multiply-adds

Writes network.pt, network.jsonl and network.png.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import plots
import runs
from data import ImageData, ImageFiles, find_data, load_data, take_fingerprint
from genotypes import Arch, read_architecture
from ptnas import Network, RetrainSettings, Training, retrain


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = runs.Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--arch", required=True, help="FILE, a published name, 'Genotype(...)', '|op~0|+...'")
    parser.add_argument("--summary", action="store_true", help="print the size of the network; needs no data")
    parser.add_argument("--no-flip", action="store_true", help="never mirror images; taken over from the search")
    runs.add_training_options(parser)
    runs.add_run_options(parser, save="network.pt", low_memory=False)
    return parser.parse_args(argv)


def command(argv: Sequence[str] | None) -> None:
    args = parse(argv)
    genotype, origin = runs.load_architecture(args.arch)
    dataset = args.dataset or origin.get("dataset", "digits")
    space = "nb201" if isinstance(genotype, Arch) else origin.get("space")
    same = dataset == origin.get("dataset")
    if not same and "fingerprint" in origin and dataset not in runs.DATASETS and not args.summary:
        same = take_fingerprint(*find_data({"dataset": dataset})) == origin["fingerprint"]  # the folder may have moved
        if not same:
            runs.note(f"note: {dataset} has other images than {args.arch} was found on, and takes no settings from it")
    preset = args.preset or (origin.get("preset") if same else None)
    preset, standard = runs.get_preset("retrain", preset, dataset, space)
    if same:
        standard = {"image_size": origin.get("image_size"), "no_flip": origin.get("no_flip", False)} | standard
    flags = ("layers", "channels", "epochs", "batch_size", "lr", "amp", "limit", "image_size", "no_flip")
    values = runs.override(standard, args, *flags)
    settings = RetrainSettings.of(values)
    if space == "nb201" and dataset == "imagenet":
        raise runs.UserError("a network of NAS-Bench-201 has no ImageNet form; imagenet16-120 is made for it")
    folder = args.data or (origin.get("data") if same else None)
    reads = {"dataset": dataset, "data": folder, "preset": preset, "seed": args.seed}
    everything = {"genotype": str(genotype), **asdict(runs.RunSettings.of(values | reads)), **asdict(settings)}
    if args.summary:
        classes, *own = (origin.get(name) for name in ("classes", "channels", "image_size"))
        sound = same and isinstance(classes, list) and all(type(each) is int and each > 0 for each in own)
        known = runs.DATASETS.get(dataset, runs.Known(len(classes), *own) if sound else runs.Known())
        summarise(genotype, settings, known, values.get("image_size"))
        return
    device = runs.set_up(args)
    with runs.Run(args.save, "network", everything, args.resume) as run:
        if not run.finished:
            data = load_data(everything, device, args.workers, settings.cutout)
            if same and not args.dataset and data.fingerprint != origin.get("fingerprint", data.fingerprint):
                advice = f"to train on those of now, give --dataset {dataset}"
                raise runs.UserError(f"{dataset} has other images than {args.arch} was found on; {advice}")
            images = f"{data.summary()} from {everything['dataset']}"
            what = f"training of a network, preset {preset}, seed {args.seed}, on {device}, {images}"
            runs.announce(what, asdict(RetrainSettings.of(standard)) | standard, values, args.save)
            runs.warn_if_long(device, preset)
            train(run, genotype, origin, settings, data, device)
    print(f"network {args.save}: {settings.epochs} epochs, {describe_result(run.records[-1])}")


def describe_result(last: dict) -> str:
    """Returns the errors of the last record in words; where classes differ in size, also the mean of their accuracies,
    in which a small class counts as much as a large one."""
    more = [f"top-5 {last['test_error_top5']:.2f}%"] if "test_error_top5" in last else []
    images = [count for count in last.get("class_images", ()) if count]
    if images and max(images) > 1.1 * min(images):  # the digits differ by less
        by_class = [accuracy for accuracy in last["class_accuracy"] if accuracy is not None]
        more.append(f"accuracy {last['test_accuracy']:.2f}%, mean by class {sum(by_class) / len(by_class):.2f}%")
    return f"test error {last['test_error']:.2f}%" + (f" ({', '.join(more)})" if more else "")


def train(
    run: runs.Run, genotype: runs.Architecture, origin: dict, settings: RetrainSettings, data: ImageData,
    device: torch.device,
) -> None:  # fmt: skip
    """Trains for the epochs that are left. origin: what genotype.json says of the search and the selection."""
    torch.manual_seed(runs.mix(run.settings["seed"]))
    network = settings.build_network(genotype, len(data.classes), data.channels)
    size, dataset = count_parameters(network), run.settings["dataset"].rsplit("/", 1)[-1]
    title = f"{dataset}: {len(network.skeleton.cells)} cells, {size:,} parameters"
    training = Training(network.to(device), settings)
    facts = {
        **data.describe(),
        "mean": data.train.mean.flatten().tolist(),
        "deviation": data.train.deviation.flatten().tolist(),
        "parameters": size,
        "computing": runs.describe_machine(device),
        "origin": {name: value for name, value in origin.items() if name != "decisions"},
    }
    run.begin(facts, training)

    def picture(figure: plots.Figure) -> None:
        plots.draw_retraining(figure, run.records, title)

    for record in run.follow(retrain(training, data.train, data.test, len(run.records)), settings.epochs, "epoch"):
        run.keep()
        run.draw(picture)
    run.finish(picture)


def summarise(
    genotype: runs.Architecture, settings: RetrainSettings, known: runs.Known, image_size: int | None
) -> None:  # fmt: skip
    """Prints parameters and multiply-adds of the network."""
    if not known.classes:
        raise runs.UserError(f"--summary reads no data; name one of {', '.join(runs.DATASETS)} with --dataset")
    network, size = settings.build_network(genotype, known.classes, known.channels), image_size or known.size
    multiply_adds = count_multiply_adds(network, known.channels, size)
    counts = f"{count_parameters(network):,} parameters, {multiply_adds:,} multiply-adds"
    cells = f"{len(network.skeleton.cells)} cells, {settings.channels} channels, {known.classes} classes"
    print(f"{cells}: {counts} for an image of {size}x{size}")


def count_parameters(network: Network) -> int:
    """Returns the number of parameters without the auxiliary head, as the paper counts."""
    return sum(parameter.numel() for name, parameter in network.named_parameters() if "auxiliary" not in name)


@torch.no_grad()
def count_multiply_adds(network: Network, image_channels: int, image_size: int) -> int:
    """Returns the multiply-adds of convolutions and linear layers for one image."""
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, image_channels, image_size, image_size))
    return counter.get_total_flops() // 2


def load_network(path: Path) -> tuple[Network, list[str], Callable[[Path], Tensor]]:
    """Returns a trained network in evaluation mode on the CPU, the names of its classes, and a function that reads an
    image file as the images of a folder are read: path -> (1, C, S, S), with mean 0 and variance 1.

    Raises runs.UserError if the file is no network that retrain.py saved, and the function if it is given no image.
    """
    saved = runs.load_checkpoint(Path(path), "network")
    with runs.blame(path, "holds no network"):
        architecture, settings = read_architecture(saved["settings"]["genotype"]), RetrainSettings.of(saved["settings"])
        network = settings.build_network(architecture, len(saved["classes"]), saved["channels"])
        network.load_state_dict(saved["state"]["network"])
        mean, deviation = (torch.tensor(saved[name])[:, None, None] for name in ("mean", "deviation"))
        mode, imagenet = "RGB" if saved["channels"] == 3 else "L", saved["settings"]["dataset"] == "imagenet"

    def read(image: Path) -> Tensor:
        files = ImageFiles([str(image)], mode, saved["image_size"], imagenet, largest=saved["largest"])
        pixels = files[0, None]
        return ((pixels - mean) / deviation)[None]

    return network.eval(), saved["classes"], read


def main(argv: Sequence[str] | None = None) -> int:
    return runs.run_command("retrain.py", command, argv)


if __name__ == "__main__":
    sys.exit(main())
