"""The figures and tables of the paper: first its argument, measured on trained supernets (Sec. 3, Fig. 1-3 and 7,
Table 1), then its results from many runs (Sec. 5 and 6, Fig. 4, 6, 8 and 9, Tables 2-5).

    python analyze.py fig1                                         # on supernet.pt, which is trained if it is not there
    python analyze.py fig1 --ckpt seed0.pt seed1.pt seed2.pt --edges 1                               # Fig. 7
    python analyze.py fig2
    python analyze.py fig3 supernet.jsonl
    python analyze.py table1
    python analyze.py cells DARTS_V2 genotype.json

    python analyze.py table4 --dataset my_images --preset laptop --benchmark nb201.csv
    python analyze.py table4 --dataset my_images --preset laptop --benchmark nb201.csv --method all --jobs 2
    python analyze.py fig4 --dataset my_images --preset laptop --benchmark nb201.csv --jobs 2
    python analyze.py table3 --run --jobs 2                        # S1-S4 on the digits; without --run: what is there
    python analyze.py table2 --run --dataset cifar10               # the DARTS space, in the paper's setting
    python analyze.py fig6 genotype.jsonl magnitude.jsonl
    python analyze.py fig9 --ckpt supernet.pt --benchmark nb201.csv

The commands of the first group measure in this process, step by step: with --resume they go on where they were stopped.
Those of the second start train_search.py, select.py and retrain.py, whose command lines are printed. Results lie in a
folder, with a list of the commands that made them: what is there is not computed again, and what was stopped goes on.
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
import runs
from data import ImageData, Images, data_folder, dataset_name, load_supernet_data
from genotypes import SPACES, is_convolution
from ptnas import (
    CRITERIA,
    Candidate,
    Progress,
    Retraining,
    RetrainSettings,
    SearchSettings,
    Selection,
    SelectionSettings,
    Steps,
    Supernet,
    evaluate,
)

Record = dict[str, Any]

# ============================================================================================================
# What is measured on trained supernets
# ============================================================================================================


Measure = Callable[..., Record]  # is called with `progress`, that of the step


class Trained(NamedTuple):
    """A trained supernet with its data."""

    path: Path
    settings: dict[str, Any]  # of its search, with the data set that is used now
    record: dict[str, Any]  # of its last epoch
    supernet: Supernet
    data: ImageData
    train: Images
    valid: Images

    @property
    def search(self) -> SearchSettings:
        return SearchSettings.of(self.settings)


def checkpoints(args: Namespace) -> list[Path]:
    """The supernets asked for, by default that of train_search.py. Raises UserError."""
    paths = args.ckpt or [Path("supernet.pt")]
    if not args.ckpt and not paths[0].exists():
        raise runs.UserError("there is no supernet.pt here: python train_search.py --space s2 makes one")
    if len({path.name for path in paths}) < len(paths):
        raise runs.UserError("--ckpt: two supernets have the same file name, by which they are told apart")
    return paths


def load_supernet(path: Path, args: Namespace) -> Trained:
    checkpoint, device = runs.load_search(path), runs.set_up(args)
    given = {"dataset": args.dataset, "data": args.data}
    settings = checkpoint["settings"] | {name: value for name, value in given.items() if value}
    record = checkpoint["records"][-1]
    data = load_supernet_data(checkpoint, path, settings, device)
    supernet = SearchSettings.of(settings).supernet(SPACES[settings["space"]], len(data.classes), data.channels)
    runs.load_state(supernet.to(device), checkpoint["state"]["bilevel"]["supernet"], path)
    return Trained(path, settings, record, supernet, data, *data.halve(settings["seed"]))


class Measurements(Steps):
    """A task that takes one measurement per step."""

    def __init__(self, measures: Sequence[Measure]):
        super().__init__(len(measures))
        self.measures = measures

    def _step(self) -> Record:
        return self.measures[self.done](progress=self.progress)


def measured(
    args: Namespace,
    how: dict[str, Any],
    trained: Sequence[Trained],
    measures: Sequence[Measure],
    show: Callable[[Record], str],
    draw: Callable[[Figure, list[Record]], None],
    summary: Callable[[list[Record]], Any],
    sources: Sequence[Path] = (),
) -> list[Record]:
    """Take measurements, as a run that can be resumed; draw them and write them with their summary as JSON beside the
    picture. They depend on these supernets, on the seed, on `how` and on the files `sources`."""
    files = [each.path for each in trained] + list(sources)
    settings = {
        "command": args.command,
        "datasets": [each.settings["dataset"] for each in trained],
        "files": [path.name for path in files],
        "fingerprints": [runs.fingerprint(path) for path in files],
        "seed": args.seed,
        **how,
    }
    save = args.save.with_suffix(".json")

    def complete(records: list[Record]) -> None:
        runs.write_json(save, {**settings, "summary": summary(records), "measured": records})

    with runs.Run(save, "analysis", settings, args.resume, args.checkpoint_minutes) as run:
        if not run.finished:
            runs.announce({"files": " ".join(settings["files"]), "seed": args.seed, **how})
            run.loop(Measurements(measures), "step", show, draw, complete=complete)
    print(f"\nwritten to {run.picture} and {run.save}")
    return run.records


def rank_correlation(first: Sequence[Any], second: Sequence[Any]) -> float | None:
    """Kendall's τ-b between two orders of the same things, of values of any kind that can be compared. None where one
    of the two holds all things equal."""
    places = [[sorted(set(values)).index(value) for value in values] for values in (first, second)]
    if any(len(set(each)) < 2 for each in places):
        return None
    return float(kendalltau(*places).statistic)


def strength(judge: Selection, cell_type: str, edge: int, supernet: str, progress: Progress) -> Record:
    """Of every operation of an edge softmax(α), how the supernet does without it (Sec. 4.1), and its strength, the
    discretisation accuracy at convergence (Sec. 3.1); and how the order of the first two agrees with the last."""
    judge.progress, space = progress, judge.supernet.space
    candidates = [Candidate(cell_type, edge, operation) for operation in space.candidates(cell_type, edge)]
    names = [space.operations[cell_type][edge][each.operation] for each in candidates]
    scores = {name: CRITERIA[name](judge, candidates) for name in ("magnitude", "perturbation", "discretization")}
    ranks = {name: [score.rank for score in of] for name, of in scores.items()}
    return {
        "supernet": supernet,
        "cell": cell_type,
        "edge": list(space.edges[edge]),
        "operations": {
            name: {criterion: scores[criterion][index].measured for criterion in scores}
            for index, name in enumerate(names)
        },
        "chosen": {criterion: names[of.index(max(of))] for criterion, of in ranks.items()},
        "tau": {name: rank_correlation(ranks[name], ranks["discretization"]) for name in ("magnitude", "perturbation")},
    }


def need_alpha(trained: Trained) -> None:
    if trained.search.alpha == "fixed":
        raise runs.UserError(f"the search of {trained.path} kept α at 0: there is nothing to compare")


def judge_of(trained: Trained, args: Namespace) -> Selection:
    """What the criteria ask: a selection, in its preset's setting, that takes no step."""
    need_alpha(trained)
    which = [trained.settings[name] for name in ("preset", "dataset", "space")]
    values = runs.preset("select", *which)[1] | runs.preset("strength", *which)[1]
    how = SelectionSettings(**runs.overridden(values, args, "metric", "tune_epochs"), seed=args.seed)
    return Selection(trained.supernet, trained.search, how, trained.train, trained.valid, trained.record["epoch"])


def show_strength(record: Record) -> str:
    return f"α chooses {record['chosen']['magnitude']}, strength {record['chosen']['discretization']}"


def agreement(records: Sequence[Record]) -> dict[str, Any]:
    """Over the edges: on how many the strongest operation is chosen, and the mean rank correlation with strength."""
    result: dict[str, Any] = {"edges": len(records)}
    for name in ("magnitude", "perturbation"):
        taus = [record["tau"][name] for record in records if record["tau"][name] is not None]
        same = sum(record["chosen"][name] == record["chosen"]["discretization"] for record in records)
        result[name] = {"tau": mean(taus) if taus else None, "agrees": same}
    return result


def print_agreement(records: Sequence[Record]) -> None:
    result = agreement(records)
    print("\n| criterion | chooses the strongest operation | mean rank correlation (τ) with strength |\n|---|---|---|")
    for name, words in (("magnitude", "largest α"), ("perturbation", "perturbation")):
        tau = plots.in_digits(result[name]["tau"])
        print(f"| {words} | {result[name]['agrees']} of {result['edges']} edges | {tau} |")


def strengths(
    args: Namespace,
    edges_of: Callable[[Supernet], list[tuple[str, int]]],
    draw: Callable[[SelectionSettings], Callable[[Figure, list[Record]], None]],
) -> None:
    """Measure strengths on these edges of the supernets."""
    loaded = [load_supernet(path, args) for path in checkpoints(args)]
    judges = [judge_of(trained, args) for trained in loaded]
    measures = []
    for trained, judge in zip(loaded, judges, strict=True):
        for cell_type, edge in edges_of(trained.supernet):
            measures.append(partial(strength, judge, cell_type, edge, trained.path.name))
    if not measures:
        raise runs.UserError(f"{loaded[0].path}: all edges were decided during the search: there is nothing to compare")
    settings = judges[0].settings
    if any(judge.settings != settings for judge in judges):
        raise runs.UserError("--ckpt: supernets of different presets or data sets, whose strengths do not compare")
    how = {name: value for name, value in asdict(settings).items() if name not in ("criterion", "seed")}
    how |= {name: getattr(args, name) for name in ("edges", "cell") if name in args}
    print_agreement(measured(args, how, loaded, measures, show_strength, draw(settings), agreement))


def undecided(supernet: Supernet, cell_types: Sequence[str]) -> list[tuple[str, int]]:
    return [(cell_type, edge) for cell_type in cell_types for edge in supernet.undecided(cell_type)]


def fig1(args: Namespace) -> None:
    """Fig. 1 and 7: softmax(α) of all operations of random edges beside their strength, and the rank correlation"""
    generator = random.Random(args.seed)

    def edges_of(supernet: Supernet) -> list[tuple[str, int]]:
        edges = undecided(supernet, supernet.space.cell_types)
        return generator.sample(edges, min(args.edges, len(edges)))

    strengths(args, edges_of, lambda how: partial(plots.draw_strengths, how.metric, how.tune_epochs))


def fig2(args: Namespace) -> None:
    """Fig. 2: the operations that α chooses on all edges of a cell beside the strongest ones, each edge by itself"""

    def edges_of(supernet: Supernet) -> list[tuple[str, int]]:
        space = supernet.space
        cell_type = args.cell or space.cell_types[0]
        if cell_type not in space.cell_types:
            raise runs.UserError(f"--cell {cell_type}: the space {space.name} has {', '.join(space.cell_types)}")
        if supernet.decided(cell_type):
            raise runs.UserError(f"edges of the {plots.CELL_NAMES[cell_type]} were decided during the search")
        return undecided(supernet, [cell_type])

    strengths(args, edges_of, lambda how: partial(plots.draw_choices, how.metric))


# ============================================================================================================
# Sec. 3.2, skip connections: Fig. 3, Table 1
# ============================================================================================================


def read_log(path: Path) -> list[Record]:
    """The epochs of a search whose log tells accuracy and gap. Raises UserError."""
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        curve = [{name: record[name] for name in ("epoch", "valid_accuracy", "skip_gap")} for record in records]
        for name, value in (item for record in curve for item in record.items()):
            if not (value is None and name == "skip_gap") and not math.isfinite(value):
                raise ValueError
    except OSError:
        raise runs.UserError(f"there is no log {path}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise runs.UserError(f"{path} is not the log of a search, supernet.jsonl") from None
    if not curve or any(record["skip_gap"] is None for record in curve):
        raise runs.UserError(f"{path}: no epoch, or a space in which no edge has both skip_connect and a convolution")
    return curve


def fig3(args: Namespace) -> None:
    """Fig. 3: mean(α_skip - α_conv), softmaxed, against validation accuracy over a search, from its log"""
    logs = args.logs or [path.with_suffix(".jsonl") for path in checkpoints(args)]
    curves = {str(path): read_log(path) for path in logs}
    print("| log | epochs | validation accuracy (%), first and last | gap, first and last | rank correlation (τ) |")
    print("|---|---|---|---|---|")
    for name, curve in curves.items():
        pairs = [[record[key] for record in curve] for key in ("valid_accuracy", "skip_gap")]
        tau = rank_correlation(*pairs)
        ends = [
            f"{values[0]:.{digits}f}, {values[-1]:.{digits}f}" for values, digits in zip(pairs, (2, 4), strict=True)
        ]
        print(f"| {name} | {len(curve)} | {' | '.join(ends)} | {plots.in_digits(tau)} |")
    runs.move_aside(args.save, args.save.with_suffix(".json"))
    runs.save_figure(args.save, curves, lambda figure: plots.draw_gaps(figure, curves))


Pair = tuple[nn.Sequential | nn.ModuleList, int, int]  # two of the modules in a list


@contextlib.contextmanager
def swapped(pairs: Sequence[Pair]) -> Iterator[None]:
    """Within the context the two modules of every pair stand in each other's place, an edge of a supernet with its row
    of α; afterwards everything is where it was (Table 1)."""
    for modules, one, other in pairs:
        modules[one], modules[other] = modules[other], modules[one]
    try:
        yield
    finally:
        for modules, one, other in reversed(pairs):
            modules[one], modules[other] = modules[other], modules[one]


def pairs_of_edges(supernet: Supernet) -> list[list[Pair]]:
    """For every cell the pairs of edges that fit each other's place, with equal strides, unless both are pruned."""
    found = []
    for cell in supernet.skeleton.cells:
        standing = [bool(presence.operations) for presence in supernet.presence[cell.cell_type]]
        found.append(
            [
                (cell.edges, one, other)
                for one, other in itertools.combinations(range(len(cell.edges)), 2)
                if cell.edges[one].stride == cell.edges[other].stride and (standing[one] or standing[other])
            ]
        )
    return found


class Staged(nn.Module):
    """VGG or ResNet at the size that He et al. (2016) have for CIFAR, to shuffle (Table 1): a stem and three stages of
    `layers` layers each, the first layer of the second and third of which halves the map and doubles the channels.

    A layer of "VGG" (Simonyan & Zisserman, 2015) is a 3x3 convolution with norm and ReLU, after max-pooling where the
    map is halved; a layer of "ResNet" is a residual block of two convolutions, so that 3 layers make a ResNet-20.
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
        """Like `ptnas.Network`."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        logits = self.classifier(x.mean(dim=(2, 3)))
        return (logits, None) if self.training else logits

    def pairs(self) -> list[list[Pair]]:
        """For every stage the pairs of layers of one shape."""
        equal = (range(number > 0, len(stage)) for number, stage in enumerate(self.stages))
        return [
            [(stage, *pair) for pair in itertools.combinations(places, 2)]
            for stage, places in zip(self.stages, equal, strict=True)
        ]


# Table 1: test accuracy in percent on CIFAR-10, before, and mean and standard deviation after shuffling
TABLE_1 = {"VGG": (92.69, 9.83, 0.33), "ResNet": (93.86, 83.20, 2.03), "DARTS supernet": (88.44, 81.09, 1.87)}


def table1(args: Namespace) -> None:
    """Table 1: test accuracy before and after two layers of every stage, or edges of every cell, change places"""
    trained = load_supernet(*checkpoints(args), args)
    saves = [args.save.with_suffix(f".{name}") for name in ("json", "vgg.pt", "resnet.pt")]
    with contextlib.ExitStack() as held:  # three runs, and none of another command may come between them
        runs.from_first(lambda: held.enter_context(runs.locked(args.save.with_suffix(".networks.pt"))))
        if not args.resume:  # all at once, so that none is left for one that goes on
            runs.move_aside(*itertools.chain.from_iterable(map(runs.files_of, saves)))
        shuffle(trained, args)


def shuffle(trained: Trained, args: Namespace) -> None:
    """Train VGG and ResNet, measure all three before and after every shuffle, print the table."""
    settings, batch = trained.settings, trained.search.eval_batch_size
    plan = runs.preset("table1", settings["preset"], settings["dataset"])[1]
    training = RetrainSettings(**runs.overridden(plan, args, "epochs", "layers", "channels"))
    shuffled: list[tuple[str, nn.Module, list[list[Pair]]]] = []
    for kind in ("VGG", "ResNet"):
        network = stage_network(kind, training, trained, args)
        shuffled.append((kind, network.eval(), network.pairs()))
    shuffled.append(("DARTS supernet", trained.supernet, pairs_of_edges(trained.supernet)))
    # A folder is in the order of its classes, and a batch of one class has statistics of its own.
    order = torch.randperm(len(trained.data.test), generator=torch.Generator().manual_seed(args.seed))
    test = trained.data.test.subset(order, args.seed)

    def accuracies(kind: str, network: nn.Module, pairs: list[list[Pair]], shuffle: int, progress: Progress) -> Record:
        """Before any shuffle, which is number 0, or with one."""
        generator = random.Random(f"{args.seed} {kind} {shuffle}")
        with swapped([generator.choice(choices) for choices in pairs if choices] if shuffle else []):
            accuracy = evaluate(network, test, batch, progress=progress).accuracy
        return {"network": kind, "shuffle": shuffle, "test_accuracy": accuracy}

    measures = [partial(accuracies, *each, shuffle) for each in shuffled for shuffle in range(args.shuffles + 1)]
    chance = 100 / len(trained.data.classes)
    records = measured(
        args,
        {"shuffles": args.shuffles, **asdict(training)},
        [trained],
        measures,
        lambda record: f"{record['network']} {record['test_accuracy']:.2f}%",
        lambda figure, records: plots.draw_shuffles(figure, before_and_after(records), chance),
        before_and_after,
    )
    print(f"\nTable 1: test accuracy (%) on {Path(settings['dataset']).name}, {args.shuffles} shuffles, mean ± sd\n")
    print("| | paper (CIFAR-10): before | after | here: before | after |\n|---|---|---|---|---|")
    for kind, each in before_and_after(records).items():
        of_paper = "{:.2f} | {:.2f} ± {:.2f}".format(*TABLE_1[kind])
        print(f"| {kind} | {of_paper} | {each['before']:.2f} | {runs.spread(each['after'])} |")


def stage_network(kind: str, training: RetrainSettings, trained: Trained, args: Namespace) -> Staged:
    """VGG or ResNet, trained on all the training images of the supernet's data."""
    settings = {name: trained.settings[name] for name in ("dataset", "data", "limit", "image_size")}
    settings |= {"network": kind, "seed": args.seed, **asdict(training)}
    save = args.save.with_suffix(f".{kind.lower()}.pt")
    data, device = trained.data, next(trained.supernet.parameters()).device
    runs.seed_step(args.seed)
    network = Staged(kind, training.layers, training.channels, len(data.classes), data.channels).to(device)
    task = Retraining(network, training, data.train, data.test)
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


def before_and_after(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """By network the test accuracy before any shuffle, those after each, and their mean and deviation."""
    result: dict[str, dict[str, Any]] = {}
    for kind in dict.fromkeys(record["network"] for record in records):
        before, *after = (record["test_accuracy"] for record in records if record["network"] == kind)
        figures = {"mean": mean(after), "sd": stdev(after) if len(after) > 1 else None} if after else {}
        result[kind] = {"before": before, "after": after, **figures}
    return result


# ============================================================================================================
# Cells: Fig. 5 and 10-24
# ============================================================================================================


def cells(args: Namespace) -> None:
    """Fig. 5 and 10-24: the cells of architectures, published ones by name, others from genotype.json or from text"""
    found = [(text, runs.load_architecture(text)[0]) for text in args.archs]

    numbers = []
    for text, architecture in found:
        operations = {kind: [name for name, _, _ in cell.operations] for kind, cell in architecture.cells.items()}
        convolutions = {kind: sum(map(is_convolution, names)) for kind, names in operations.items()}
        numbers.append({"name": text, "text": str(architecture), "convolutions": convolutions})
        print(f"{text}: {architecture}")
    runs.move_aside(args.save, args.save.with_suffix(".json"))
    runs.save_figure(args.save, numbers, lambda figure: plots.draw_cells(figure, found))


# ============================================================================================================
# Command line
# ============================================================================================================


def add_figure_options(parser: ArgumentParser, name: str, several: bool = True) -> None:
    """The options of a command that measures on a supernet, or on several."""
    default = "supernet.pt by default, which is trained where it is not there"
    parser.add_argument("--ckpt", nargs="+" if several else 1, type=Path, metavar="FILE", help=default)
    parser.add_argument("--dataset", metavar="NAME|FOLDER", help="that of the search by default")
    parser.add_argument("--data", metavar="DIR", type=Path, help="where the named data sets lie")
    parser.add_argument("--seed", type=runs.whole(0), default=0, metavar="N", help="of what is drawn at random")
    runs.add_resume_options(parser)
    add_picture_option(parser, name)
    runs.add_machine_options(parser)


def add_picture_option(parser: ArgumentParser, name: str) -> None:
    text = f"{name}.png by default; the numbers stand beside it as .json"
    parser.add_argument("--save", type=Path, default=Path(f"{name}.png"), metavar="FILE", help=text)


def add_strength_options(parser: ArgumentParser, name: str, several: bool = True) -> None:
    parser.add_argument("--metric", choices=("accuracy", "loss"), help="what strength is measured by")
    parser.add_argument("--tune-epochs", type=runs.whole(0), metavar="N", help="for the supernet to converge again")
    add_figure_options(parser, name, several)


def fig1_options(parser: ArgumentParser) -> None:
    parser.add_argument("--edges", type=runs.whole(1), default=3, metavar="K", help="of each supernet, 3 by default")
    add_strength_options(parser, "fig1")


def fig2_options(parser: ArgumentParser) -> None:
    parser.add_argument("--cell", choices=tuple(plots.CELL_NAMES), help="the first of the space by default")
    add_strength_options(parser, "fig2", several=False)


def fig3_options(parser: ArgumentParser) -> None:
    text = "supernet.jsonl by default; where there is no supernet.pt, it is trained first"
    parser.add_argument("logs", nargs="*", type=Path, metavar="LOG", help=text)
    parser.set_defaults(ckpt=None)
    add_picture_option(parser, "fig3")
    runs.add_machine_options(parser)


def table1_options(parser: ArgumentParser) -> None:
    parser.add_argument("--shuffles", type=runs.whole(1, 10**5), default=10, metavar="N", help="10 by default")
    for name, least, of in (("--epochs", 1, ""), ("--layers", 3, " in each stage"), ("--channels", 1, "")):
        parser.add_argument(name, type=runs.whole(least), metavar="N", help=f"of VGG and ResNet{of}")
    add_figure_options(parser, "table1", several=False)


def cells_options(parser: ArgumentParser) -> None:
    text = "published name, genotype.json, Genotype(...) or |op~0|+...; two of DARTS+PT by default"
    parser.add_argument("archs", nargs="*", default=["DARTS_PT_S2_1", "DARTS_PT_S4_1"], metavar="ARCH", help=text)
    add_picture_option(parser, "cells")


COMMANDS: dict[str, tuple[Callable[[Namespace], None], Callable[[ArgumentParser], None]]] = {
    "fig1": (fig1, fig1_options),
    "fig2": (fig2, fig2_options),
    "fig3": (fig3, fig3_options),
    "table1": (table1, table1_options),
    "cells": (cells, cells_options),
}


OTHER_NAMES = {"fig1": ["fig7"]}
MOVED = ("table2", "table3", "table4", "table5", "fig4", "fig6", "fig8", "fig9")  # to reproduce.py


def parse(argv: Sequence[str] | None) -> Namespace:
    words = sys.argv[1:] if argv is None else list(argv)
    if words and words[0] in MOVED:
        raise runs.UserError(f"{words[0]} moved: {shlex.join(['python', 'reproduce.py', *words])}")
    parser = runs.Parser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=runs.Parser)
    for name, (function, add_options) in COMMANDS.items():
        texts = {"help": function.__doc__, "description": function.__doc__}
        own = commands.add_parser(name, aliases=OTHER_NAMES.get(name, []), **texts)
        own.set_defaults(command=name)  # by whichever name it was called
        add_options(own)
    args = parser.parse_args(words)
    if "save" in args:
        runs.check_picture(args)
    if "ckpt" in args and not args.ckpt and "dataset" in args and (args.dataset or args.data):
        raise runs.UserError("--dataset and --data are for the supernets that --ckpt names")
    return args


def run(argv: Sequence[str] | None) -> None:
    args = parse(argv)
    COMMANDS[args.command][0](args)


def main(argv: Sequence[str] | None = None) -> int:
    return runs.command("analyze.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
