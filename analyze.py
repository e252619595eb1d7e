"""Measure the argument of the paper inside trained supernets (Sec. 3): Fig. 1, 2, 3 and 7, Table 1; draw cells.

    python train_search.py --space s2                                    # first: writes supernet.pt and supernet.jsonl
    python analyze.py fig1                                               # α against strength, on random edges
    python analyze.py fig1 --ckpt seed0.pt seed1.pt seed2.pt --edges 1   # Fig. 7: on several supernets
    python analyze.py fig2                                               # the same on all edges of a cell
    python analyze.py fig3 supernet.jsonl                                # α_skip - α_conv over a search
    python analyze.py table1                                             # shuffled edges, beside VGG and ResNet
    python analyze.py cells DARTS_V2 genotype.json                       # Fig. 5 and 10-24

Each command writes a picture, and its numbers as JSON beside it. fig1, fig2 and table1 measure one edge or one shuffle
per step, and --resume goes on after the last step. Figures and tables of many runs are in reproduce.py.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import random
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from scipy.stats import kendalltau
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock
from torchvision.ops import Conv2dNormActivation

import plots
import ptnas
import runs
from data import ImageData, Images, data_folder, dataset_name, load_supernet_data
from genotypes import SPACES, is_convolution

Record = dict[str, Any]


# ==== Trained supernets, and measurements on them ===================================================================


class Trained(NamedTuple):
    """A trained supernet with its data."""

    path: Path
    settings: dict[str, Any]  # of its search, but with the data set of this command
    search: ptnas.SearchSettings
    epochs: int  # that the supernet was trained for
    supernet: ptnas.Supernet
    data: ImageData
    train: Images
    valid: Images


def list_checkpoints(args: Namespace) -> list[Path]:
    """Returns the supernets of --ckpt, by default supernet.pt. Raises UserError if that is missing, or if two have one
    name."""
    paths = args.ckpt or [Path("supernet.pt")]
    if not args.ckpt and not paths[0].exists():
        raise runs.UserError("there is no supernet.pt here: python train_search.py --space s2 makes one")
    if len({path.name for path in paths}) < len(paths):
        raise runs.UserError("--ckpt: two supernets have the same file name, by which they are told apart")
    return paths


def load_supernet(path: Path, args: Namespace) -> Trained:
    """Returns a supernet with the data set of its search, or with that of --dataset. Raises UserError."""
    checkpoint, device = runs.load_search(path), runs.set_up(args)
    settings = dict(checkpoint["settings"])
    if args.dataset:
        settings["dataset"] = dataset_name(args.dataset)
    if args.data:
        settings["data"] = data_folder(args.data)
    search = ptnas.SearchSettings.of(settings)
    data = load_supernet_data(checkpoint, path, settings, device)
    supernet = search.supernet(SPACES[settings["space"]], len(data.classes), data.channels)
    runs.load_state(supernet.to(device), checkpoint["state"]["bilevel"]["supernet"], path)
    epochs = checkpoint["records"][-1]["epoch"]
    return Trained(path, settings, search, epochs, supernet, data, *data.halves(settings["seed"]))


class Measurements(ptnas.Steps):
    """A task that takes one measurement a step. Each returns a record and leaves its network as it was."""

    def __init__(self, measures: Sequence[Callable[..., Record]]):
        super().__init__(len(measures))
        self.measures = measures

    def _step(self) -> Record:
        return self.measures[self.done](progress=self.progress)


def take_measurements(
    args: Namespace,
    how: dict[str, Any],
    supernets: Sequence[Trained],
    measures: Sequence[Callable[..., Record]],
    show: Callable[[Record], str],
    draw: Callable[[Figure, list[Record]], None],
    summarise: Callable[[list[Record]], Any],
) -> list[Record]:
    """Takes the measurements as a run, draws them, writes them with their summary as JSON, and returns them.

    how: the settings that the measurements depend on, beside the supernets and the seed. --resume must find the same.
    """
    settings = {
        "command": args.command,
        "datasets": [each.settings["dataset"] for each in supernets],
        "files": [each.path.name for each in supernets],
        "fingerprints": [runs.fingerprint(each.path) for each in supernets],
        "seed": args.seed,
        **how,
    }
    save = args.save.with_suffix(".json")

    def complete(records: list[Record]) -> None:
        runs.write_json(save, {**settings, "summary": summarise(records), "measured": records})

    with runs.Run(save, "analysis", settings, args.resume, args.checkpoint_minutes) as run:
        if not run.finished:
            runs.announce({"files": " ".join(settings["files"]), "seed": args.seed, **how})
            run.loop(Measurements(measures), "step", show, draw, complete=complete)
    print(f"\nwritten to {run.picture} and {run.save}")
    return run.records


def correlate_ranks(first: Sequence[Any], second: Sequence[Any]) -> float | None:
    """Returns Kendall's τ-b between two orders of the same things, None if one of them holds all things equal. The
    values may be of any kind that can be compared, such as pairs."""
    places = [[sorted(set(values)).index(value) for value in values] for values in (first, second)]
    if any(len(set(each)) < 2 for each in places):
        return None
    return float(kendalltau(*places).statistic)


# ==== Sec. 3.1, α may not represent the operation strength: Fig. 1, 2 and 7 =========================================


def measure_strength(
    judge: ptnas.Selection, cell_type: str, edge: int, supernet: str, progress: ptnas.Progress
) -> Record:
    """Measures every operation of an undecided edge in three ways, and how their orders agree.

    magnitude:       softmax(α) of the operation.
    perturbation:    accuracy and loss of the supernet without the operation (Sec. 4.1).
    discretization:  its strength (Sec. 3.1): accuracy and loss after the edge is discretised to it and the rest tuned.

    The paper tunes "until it converges again". Here each operation is tuned for a fixed number of epochs, as many as
    `tune_epochs` of the settings, so that all operations have the same. Tuning takes place on a copy of the supernet.
    supernet: its name, for the record.
    """
    judge.progress, space = progress, judge.supernet.space
    candidates = [ptnas.Candidate(cell_type, edge, operation) for operation in space.candidates(cell_type, edge)]
    names = [space.operations[cell_type][edge][candidate.operation] for candidate in candidates]
    operations: dict[str, dict[str, Any]] = {name: {} for name in names}
    ranks, chosen = {}, {}
    for criterion in ("magnitude", "perturbation", "discretization"):
        scores = ptnas.CRITERIA[criterion](judge, candidates)
        for name, score in zip(names, scores, strict=True):
            operations[name][criterion] = score.measured
        ranks[criterion] = [score.rank for score in scores]
        chosen[criterion] = names[ranks[criterion].index(max(ranks[criterion]))]
    return {
        "supernet": supernet,
        "cell": cell_type,
        "edge": list(space.edges[edge]),
        "operations": operations,
        "chosen": chosen,
        "tau": {name: correlate_ranks(ranks[name], ranks["discretization"]) for name in ("magnitude", "perturbation")},
    }


def make_judge(trained: Trained, args: Namespace) -> ptnas.Selection:
    """Returns what the criteria ask, with the settings of the preset of the search. Raises UserError if α was fixed."""
    if trained.search.alpha == "fixed":
        raise runs.UserError(f"the search of {trained.path} kept α at 0: there is nothing to compare")
    key = [trained.settings[name] for name in ("preset", "dataset", "space")]
    values = runs.preset("select", *key)[1] | runs.preset("strength", *key)[1]
    how = ptnas.SelectionSettings(**runs.overridden(values, args, "metric", "tune_epochs"), seed=args.seed)
    return ptnas.Selection(trained.supernet, trained.search, how, trained.train, trained.valid, trained.epochs)


def compare_strengths(
    args: Namespace,
    list_edges: Callable[[ptnas.Supernet], list[tuple[str, int]]],
    draw: Callable[[Figure, list[Record], str, int], None],
) -> None:
    """Measures the strengths on some edges of the supernets, draws and prints them. Raises UserError.

    list_edges: returns the edges of a supernet, as (cell type, edge); draw: as `plots.draw_strengths`.
    """
    supernets = [load_supernet(path, args) for path in list_checkpoints(args)]
    judges = [make_judge(trained, args) for trained in supernets]
    measures = []
    for trained, judge in zip(supernets, judges, strict=True):
        for cell_type, edge in list_edges(trained.supernet):
            measures.append(partial(measure_strength, judge, cell_type, edge, trained.path.name))
    if not measures:
        raise runs.UserError(f"{supernets[0].path}: the search decided all edges: there is nothing to compare")
    settings = judges[0].settings
    if any(judge.settings != settings for judge in judges):
        raise runs.UserError("--ckpt: supernets of different presets or data sets, whose strengths do not compare")
    how = {name: value for name, value in asdict(settings).items() if name not in ("criterion", "seed")}
    how |= {name: getattr(args, name) for name in ("edges", "cell") if name in args}
    records = take_measurements(
        args,
        how,
        supernets,
        measures,
        lambda record: f"α chooses {record['chosen']['magnitude']}, strength {record['chosen']['discretization']}",
        lambda figure, records: draw(figure, records, settings.metric, settings.tune_epochs),
        summarise_agreement,
    )
    print_agreement(records)


def summarise_agreement(records: Sequence[Record]) -> dict[str, Any]:
    """Returns for magnitude and perturbation on how many edges they choose the strongest operation (`agrees`), and the
    mean of their rank correlations with strength (`tau`)."""
    summary: dict[str, Any] = {"edges": len(records)}
    for name in ("magnitude", "perturbation"):
        taus = [record["tau"][name] for record in records if record["tau"][name] is not None]
        agrees = sum(record["chosen"][name] == record["chosen"]["discretization"] for record in records)
        summary[name] = {"tau": mean(taus) if taus else None, "agrees": agrees}
    return summary


def print_agreement(records: Sequence[Record]) -> None:
    """Prints the summary as a table."""
    summary = summarise_agreement(records)
    print("\n| criterion | chooses the strongest operation | mean rank correlation (τ) with strength |\n|---|---|---|")
    for name, words in (("magnitude", "largest α"), ("perturbation", "perturbation")):
        agrees, tau = summary[name]["agrees"], plots.format_tau(summary[name]["tau"])
        print(f"| {words} | {agrees} of {summary['edges']} edges | {tau} |")


def fig1(args: Namespace) -> None:
    """Draws Fig. 1 and 7: softmax(α) of the operations of random edges beside their strength.

    The strength of an operation is the accuracy after discretising the edge to it and tuning the rest. The command
    prints how its order agrees with that of α and with that of perturbation.
    """
    generator = random.Random(args.seed)

    def list_edges(supernet: ptnas.Supernet) -> list[tuple[str, int]]:
        cell_types = supernet.space.cell_types
        edges = [(cell_type, edge) for cell_type in cell_types for edge in supernet.undecided(cell_type)]
        return generator.sample(edges, min(args.edges, len(edges)))

    compare_strengths(args, list_edges, plots.draw_strengths)


def fig2(args: Namespace) -> None:
    """Draws Fig. 2: the operation with the largest α and the strongest operation, on every edge of a cell."""

    def list_edges(supernet: ptnas.Supernet) -> list[tuple[str, int]]:
        space = supernet.space
        cell_type = args.cell or space.cell_types[0]
        if cell_type not in space.cell_types:
            raise runs.UserError(f"--cell {cell_type}: the space {space.name} has {', '.join(space.cell_types)}")
        if supernet.decided(cell_type):
            raise runs.UserError(f"the search decided edges of the {plots.CELL_NAMES[cell_type]}")
        return [(cell_type, edge) for edge in supernet.undecided(cell_type)]

    compare_strengths(args, list_edges, plots.draw_choices)


# ==== Sec. 3.2, skip connections: Fig. 3 ============================================================================


def fig3(args: Namespace) -> None:
    """Draws Fig. 3: mean(α_skip - α_conv), softmaxed, against the validation accuracy, from the log of a search.

    The gap of an edge is the weight of skip_connect minus that of the convolution. The paper's S2 has one convolution
    per edge. Where an edge has several, their mean makes them one.
    """
    logs = args.logs or [Path("supernet.jsonl")]
    curves = {str(path): read_log(path) for path in logs}
    print("| log | epochs | validation accuracy (%), first and last | gap, first and last | rank correlation (τ) |")
    print("|---|---|---|---|---|")
    for name, curve in curves.items():
        accuracies, gaps = ([record[key] for record in curve] for key in ("valid_accuracy", "skip_gap"))
        ends = f"{accuracies[0]:.2f}, {accuracies[-1]:.2f} | {gaps[0]:.4f}, {gaps[-1]:.4f}"
        print(f"| {name} | {len(curve)} | {ends} | {plots.format_tau(correlate_ranks(accuracies, gaps))} |")
    runs.move_aside(args.save, args.save.with_suffix(".json"))
    runs.save_figure(args.save, curves, lambda figure: plots.draw_gaps(figure, curves))


def read_log(path: Path) -> list[Record]:
    """Returns accuracy and gap of each epoch of a search, from its log. Raises UserError if it is no such log, or if
    the space has no edge with both a skip connection and a convolution."""
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        curve = [{name: record[name] for name in ("epoch", "valid_accuracy", "skip_gap")} for record in records]
        if not all(value is None or math.isfinite(value) for record in curve for value in record.values()):
            raise ValueError
    except OSError:
        raise runs.UserError(f"there is no log {path}: python train_search.py --space s2 writes one") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise runs.UserError(f"{path} is not the log of a search, supernet.jsonl") from None
    if not curve or any(value is None for record in curve for value in record.values()):
        raise runs.UserError(f"{path}: no epoch, or a space in which no edge has both skip_connect and a convolution")
    return curve


# ==== Sec. 3.2, unrolled estimation: Table 1 ========================================================================

# The paper's test accuracy in percent on CIFAR-10: before shuffling, mean and standard deviation after it
TABLE_1 = {"VGG": (92.69, 9.83, 0.33), "ResNet": (93.86, 83.20, 2.03), "DARTS supernet": (88.44, 81.09, 1.87)}

Pair = tuple[nn.Sequential | nn.ModuleList, int, int]  # a list of modules, and two places in it


@contextlib.contextmanager
def swap(pairs: Sequence[Pair]) -> Iterator[None]:
    """Lets the two modules of every pair change places, until the context ends. An edge of a supernet takes its
    operations and its row of α along."""
    for modules, one, other in pairs:
        modules[one], modules[other] = modules[other], modules[one]
    try:
        yield
    finally:
        for modules, one, other in reversed(pairs):
            modules[one], modules[other] = modules[other], modules[one]


def list_edge_pairs(supernet: ptnas.Supernet) -> list[list[Pair]]:
    """Returns for every cell the pairs of edges that can change places: of equal stride, and not both pruned."""
    pairs = []
    for cell in supernet.skeleton.cells:
        present = [bool(presence.operations) for presence in supernet.presence[cell.cell_type]]
        pairs.append(
            [
                (cell.edges, one, other)
                for one, other in itertools.combinations(range(len(cell.edges)), 2)
                if cell.edges[one].stride == cell.edges[other].stride and (present[one] or present[other])
            ]
        )
    return pairs


class Staged(nn.Module):
    """VGG or ResNet for small images: a stem, then three stages of `layers` layers (He et al., 2016, Sec. 4.2).

    The first layer of the second and of the third stage halves the map and doubles the channels. A layer of "VGG"
    (Simonyan & Zisserman, 2015) is a 3x3 convolution with norm and ReLU, after max-pooling where it halves the map. A
    layer of "ResNet" is a residual block of two convolutions, so 3 layers make a ResNet-20.
    """

    def __init__(self, kind: str, layers: int, channels: int, classes: int, image_channels: int):
        super().__init__()
        self.stem = Conv2dNormActivation(image_channels, channels)
        layer = BasicBlock if kind == "ResNet" else Conv2dNormActivation
        stages = [[layer(channels, channels) for _ in range(layers)]]
        for width in (2 * channels, 4 * channels):
            if kind == "ResNet":
                shortcut = Conv2dNormActivation(width // 2, width, 1, stride=2, activation_layer=None)
                first = BasicBlock(width // 2, width, stride=2, downsample=shortcut)
            else:
                first = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), Conv2dNormActivation(width // 2, width))
            stages.append([first, *(layer(width, width) for _ in range(layers - 1))])
        self.stages = nn.ModuleList(nn.Sequential(*stage) for stage in stages)
        self.classifier = nn.Linear(4 * channels, classes)

    def forward(self, x: Tensor, batch: int = 0, drop_path: float = 0.0) -> Tensor | tuple[Tensor, None]:
        """Takes and returns what `ptnas.Network` does, without auxiliary logits. x: (N, image channels, H, W)."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        logits = self.classifier(x.mean(dim=(2, 3)))
        return (logits, None) if self.training else logits

    def list_layer_pairs(self) -> list[list[Pair]]:
        """Returns for every stage the pairs of layers of the same shape: all, or all but the one that halves."""
        pairs = []
        for number, stage in enumerate(self.stages):
            places = range(number > 0, len(stage))
            pairs.append([(stage, one, other) for one, other in itertools.combinations(places, 2)])
        return pairs


def table1(args: Namespace) -> None:
    """Measures Table 1: the test accuracy of VGG, ResNet and a supernet before and after shuffling.

    A shuffle swaps two random layers in every stage, or two random edges in every cell. VGG and ResNet are trained
    first, on the same data set, as runs of their own.
    """
    trained = load_supernet(*list_checkpoints(args), args)
    if not args.resume:  # all three runs at once: --resume must not find the end of an earlier result
        saves = [args.save.with_suffix(f".{name}") for name in ("json", "vgg.pt", "resnet.pt")]
        runs.move_aside(*itertools.chain.from_iterable(map(runs.files_of, saves)))
    plan = runs.preset("table1", trained.settings["preset"], trained.settings["dataset"])[1]
    training = ptnas.RetrainSettings(**runs.overridden(plan, args, "epochs", "layers", "channels"))
    vgg, resnet = (train_network(kind, training, trained, args).eval() for kind in ("VGG", "ResNet"))
    shuffled = (
        ("VGG", vgg, vgg.list_layer_pairs()),
        ("ResNet", resnet, resnet.list_layer_pairs()),
        ("DARTS supernet", trained.supernet, list_edge_pairs(trained.supernet)),
    )
    # The images of a folder are in the order of their classes, and a batch of one class has its own statistics.
    order = torch.randperm(len(trained.data.test), generator=torch.Generator().manual_seed(args.seed))
    test, batch_size = trained.data.test.of(order, args.seed), trained.search.eval_batch_size

    def measure(
        kind: str, network: nn.Module, pairs: list[list[Pair]], shuffle: int, progress: ptnas.Progress
    ) -> Record:
        """Measures after one shuffle, or before any of them if `shuffle` is 0."""
        generator = random.Random(f"{args.seed} {kind} {shuffle}")
        drawn = [generator.choice(choices) for choices in pairs if choices] if shuffle else []
        with swap(drawn):
            accuracy = ptnas.evaluate(network, test, batch_size, progress=progress).accuracy
        return {"network": kind, "shuffle": shuffle, "test_accuracy": accuracy}

    chance = 100 / len(trained.data.classes)
    records = take_measurements(
        args,
        {"shuffles": args.shuffles, **asdict(training)},
        [trained],
        [partial(measure, *each, shuffle) for each in shuffled for shuffle in range(args.shuffles + 1)],
        lambda record: f"{record['network']} {record['test_accuracy']:.2f}%",
        lambda figure, records: plots.draw_shuffles(figure, summarise_shuffles(records), chance),
        summarise_shuffles,
    )
    print_shuffles(records, Path(trained.settings["dataset"]).name)


def train_network(kind: str, training: ptnas.RetrainSettings, trained: Trained, args: Namespace) -> Staged:
    """Returns VGG or ResNet, trained on all the training images of the supernet's data set, as a run of its own."""
    settings = {name: trained.settings[name] for name in ("dataset", "data", "limit", "image_size")}
    settings |= {"network": kind, "seed": args.seed, **asdict(training)}
    save = args.save.with_suffix(f".{kind.lower()}.pt")
    data, device = trained.data, next(trained.supernet.parameters()).device
    runs.seed_step(args.seed)
    network = Staged(kind, training.layers, training.channels, len(data.classes), data.channels).to(device)
    task = ptnas.Retraining(network, training, data.train, data.test)
    with runs.Run(save, "network", settings, args.resume, args.checkpoint_minutes) as run:
        if run.finished:
            runs.load_state(task, run.state, save)
        else:
            run.loop(
                task,
                "epoch",
                lambda record: f"{kind}: test accuracy {record['test_accuracy']:.2f}%",
                lambda figure, records: plots.draw_retraining(figure, records, kind),
            )
    return network


def summarise_shuffles(records: Sequence[Record]) -> dict[str, Record]:
    """Returns by network the test accuracy before shuffling, those after each shuffle, their mean and deviation."""
    summary: dict[str, Record] = {}
    for kind in dict.fromkeys(record["network"] for record in records):
        before, *after = (record["test_accuracy"] for record in records if record["network"] == kind)
        summary[kind] = {"before": before, "after": after}
        if after:
            summary[kind] |= {"mean": mean(after), "sd": stdev(after) if len(after) > 1 else None}
    return summary


def print_shuffles(records: Sequence[Record], dataset: str) -> None:
    """Prints the summary beside the paper's numbers."""
    summary = summarise_shuffles(records)
    shuffles = len(summary["VGG"]["after"])
    print(f"\nTable 1: test accuracy (%) on {dataset}, {shuffles} shuffles, mean ± sd\n")
    print("| | paper (CIFAR-10): before | after | here: before | after |\n|---|---|---|---|---|")
    for kind, here in summary.items():
        paper = "{:.2f} | {:.2f} ± {:.2f}".format(*TABLE_1[kind])
        print(f"| {kind} | {paper} | {here['before']:.2f} | {runs.spread(here['after'])} |")


# ==== Cells: Fig. 5 and 10-24 =======================================================================================


def cells(args: Namespace) -> None:
    """Draws Fig. 5 and 10-24: the cells of published architectures, or of genotypes from files or from text."""
    architectures = [(text, runs.load_architecture(text)[0]) for text in args.archs]
    numbers = []
    for text, architecture in architectures:
        convolutions = {
            cell_type: sum(is_convolution(name) for name, _, _ in cell.operations)
            for cell_type, cell in architecture.cells.items()
        }
        numbers.append({"name": text, "text": str(architecture), "convolutions": convolutions})
        print(f"{text}: {architecture}")
    runs.move_aside(args.save, args.save.with_suffix(".json"))
    runs.save_figure(args.save, numbers, lambda figure: plots.draw_cells(figure, architectures))


# ==== Command line ==================================================================================================


COMMANDS = {"fig1": fig1, "fig2": fig2, "fig3": fig3, "table1": table1, "cells": cells}
MOVED = ("table2", "table3", "table4", "table5", "fig4", "fig6", "fig8", "fig9")  # to reproduce.py


def add_options(parser: ArgumentParser, name: str) -> None:
    """Adds the options of one command."""
    add = parser.add_argument
    if name == "fig1":
        add("--edges", type=runs.whole(1), default=3, metavar="K", help="random edges of each supernet, 3 by default")
    if name == "fig2":
        add("--cell", choices=tuple(plots.CELL_NAMES), help="cell type, by default the first of the space")
    if name == "fig3":
        add("logs", nargs="*", type=Path, metavar="LOG", help="logs of searches, supernet.jsonl by default")
    if name == "table1":
        add("--shuffles", type=runs.whole(1, 10**5), default=10, metavar="N", help="of each network, 10 by default")
        add("--epochs", type=runs.whole(1), metavar="N", help="epochs of training of VGG and ResNet")
        add("--layers", type=runs.whole(3), metavar="N", help="layers in each of their three stages")
        add("--channels", type=runs.whole(1), metavar="N", help="channels of their first stage")
    if name == "cells":
        text = "published name, genotype.json, Genotype(...) or |op~0|+...; two cells of the paper by default"
        add("archs", nargs="*", default=["DARTS_PT_S2_1", "DARTS_PT_S4_1"], metavar="ARCH", help=text)
    if name in ("fig1", "fig2"):
        add("--metric", choices=("accuracy", "loss"), help="measure of strength, by default that of the preset")
        text = "epochs of tuning before strength is measured, by default those of the preset"
        add("--tune-epochs", type=runs.whole(0), metavar="N", help=text)
    if name in ("fig1", "fig2", "table1"):
        text = "trained supernet, supernet.pt by default" + ("; several in turn" if name == "fig1" else "")
        add("--ckpt", nargs="+" if name == "fig1" else 1, type=Path, metavar="FILE", help=text)
        add("--dataset", metavar="NAME|FOLDER", help="data set, by default that of the search")
        add("--data", metavar="DIR", type=Path, help="folder of the named data sets")
        add("--seed", type=runs.whole(0), default=0, metavar="N", help="seed of all random choices, 0 by default")
        runs.add_resume_options(parser)
        runs.add_machine_options(parser)
    text = f"the picture, {name}.png by default; its numbers are beside it as .json"
    add("--save", type=Path, default=Path(f"{name}.png"), metavar="FILE", help=text)


def parse(argv: Sequence[str] | None) -> Namespace:
    """Returns the options. Raises UserError."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words and words[0] in MOVED:
        raise runs.UserError(f"{words[0]} moved: {shlex.join(['python', 'reproduce.py', *words])}")
    parser = runs.Parser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=runs.Parser)
    for name, function in COMMANDS.items():
        texts = {"help": function.__doc__.split("\n")[0], "description": function.__doc__}
        command = commands.add_parser(name, aliases=["fig7"] if name == "fig1" else [], **texts)
        command.set_defaults(command=name)  # by either name
        add_options(command, name)
    args = parser.parse_args(words)
    runs.check_picture(args)
    return args


def run(argv: Sequence[str] | None) -> None:
    args = parse(argv)
    COMMANDS[args.command](args)


def main(argv: Sequence[str] | None = None) -> int:
    return runs.command("analyze.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
