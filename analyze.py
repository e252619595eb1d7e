"""The figures and tables of the paper: first its argument, measured on trained supernets (Sec. 3, Fig. 1-3 and 7,
Table 1, Proposition 1), then its results from many runs (Sec. 5 and 6, Fig. 4, 6, 8 and 9, Tables 2-5).

    python analyze.py fig1                                         # on supernet.pt, which is trained if it is not there
    python analyze.py fig1 --ckpt seed0.pt seed1.pt seed2.pt --edges 1                               # Fig. 7
    python analyze.py fig2
    python analyze.py fig3 supernet.jsonl
    python analyze.py table1
    python analyze.py proposition
    python analyze.py hessian
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
import os
import random
import shlex
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import kendalltau
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock
from torchvision.ops import Conv2dNormActivation
from tqdm import tqdm

import runs
from genotypes import SPACES, DiscreteCell, is_convolution
from ptnas import (
    CRITERIA,
    Batch,
    Candidate,
    Pair,
    Progress,
    Retraining,
    RetrainSettings,
    SearchSettings,
    Selection,
    SelectionSettings,
    Steps,
    Supernet,
    alpha_hessian,
    branches,
    branching,
    evaluate,
    largest_eigenvalue,
    pairs_of_edges,
    proposition_1,
    proposition_1_simplified,
    swapped,
)

HERE = Path(__file__).resolve().parent
Record = dict[str, Any]
# Of curves, told apart in grey too: colour, marker, line
LOOKS = (
    (runs.RED, "s", ":"), (runs.ORANGE, "^", "--"), (runs.BLUE, "o", "-"), ("#2a8c55", "v", "-."),
    ("#8a4fb5", "D", ":"), ("#0e8f9c", "P", "--"), ("#b8860b", "X", "-"), ("black", "*", "-."),
)  # fmt: skip
HATCHED = {"color": "#f2b45c", "edgecolor": "black", "hatch": "///", "linewidth": 0.6}  # bars beside plain blue ones
AXES = {
    "epoch": "epoch of the search",
    "round": "round of the selection",
    "tune_epochs": "epochs of tuning per round",
    "test_error": "true test error (%)",
    "valid_accuracy": "validation accuracy (%)",
}


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
    data: runs.ImageData
    train: runs.Images
    valid: runs.Images

    @property
    def search(self) -> SearchSettings:
        return SearchSettings.of(self.settings)

    def sample(self, count: int) -> Batch:
        """A batch of clean validation images, about as many, the same in all processes."""
        return next(replace(self.valid, share=(0, 1)).clean(count))


def checkpoints(args: Namespace) -> list[Path]:
    """The supernets asked for. By default that of train_search.py, which is run first if it has not been yet, or not to
    its end."""
    if args.ckpt:
        if len({path.name for path in args.ckpt}) < len(args.ckpt):
            raise runs.UserError("--ckpt: two supernets have the same file name, by which they are told apart")
        return args.ckpt
    default = Path("supernet.pt")
    if not default.exists() or begun(default):
        need_one_process()
        command = ["train_search.py", "--space", "s2", "--keep-every", "5", "--device", args.device, "--resume"]
        command += ["--threads", str(args.threads)] if args.threads else []
        print(f"python {shlex.join(command)}", flush=True)
        if run_script(command, []).returncode:
            raise runs.UserError(f"{default} is not finished, and training it failed; --ckpt names another supernet")
    return [default]


def begun(supernet: Path) -> bool:
    """Whether this is of a search as `checkpoints` starts it, which was stopped."""
    checkpoint = runs.load_newest(supernet, "supernet")[0]
    preset, values = runs.preset("search", None, "digits", "s2")
    how = {"space": "s2", "dataset": "digits", "preset": preset, "seed": 0, **asdict(SearchSettings(**values))}
    how |= dict.fromkeys(("data", "limit", "image_size"))
    return not checkpoint["finished"] and how.items() <= checkpoint["settings"].items()


def run_script(
    command: Sequence[str], children: list[subprocess.Popen], stopping: Callable[[], bool] = lambda: False, **how: Any
) -> subprocess.CompletedProcess:
    """Run a script beside this one. A signal to this process asks it to save and to end, and is passed on when that is
    over. In another thread, where signals do not arrive, the script is among `children` while it runs, to be asked from
    elsewhere; it asks itself if `stopping()` by then."""
    with subprocess.Popen([sys.executable, str(HERE / command[0]), *command[1:]], text=True, **how) as child:
        children.append(child)
        if stopping():
            child.terminate()
        try:
            out, err = child.communicate()
        except runs.Stopped:
            child.terminate()
            raise
        finally:
            children.remove(child)
    return subprocess.CompletedProcess(command, child.returncode, out, err)


def need_one_process() -> None:
    """Raises UserError under torchrun, for what starts commands of its own."""
    if runs.several():
        raise runs.UserError("this starts commands of its own, and torchrun has started several processes to do so")


def load_supernet(path: Path, args: Namespace) -> Trained:
    checkpoint, device = runs.load_search(path), runs.set_up(args)
    given = {"dataset": args.dataset and runs.dataset_name(args.dataset), "data": runs.data_folder(args.data)}
    settings = checkpoint["settings"] | {name: value for name, value in given.items() if value}
    record = checkpoint["records"][-1]
    data = runs.load_supernet_data(checkpoint, path, settings, device)
    supernet = SearchSettings.of(settings).supernet(SPACES[settings["space"]], len(data.classes), data.channels)
    runs.load_state(supernet.to(device), checkpoint["state"]["bilevel"]["supernet"], path)
    return Trained(path, settings, record, supernet, data, *data.halves(settings["seed"]))


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


def check_picture(args: Namespace) -> None:
    """A picture takes no name of another run, whose picture and numbers it would replace."""
    checkpoint = args.save.with_suffix(".pt")
    taken = checkpoint.exists()
    if taken and "resume" in args:
        try:
            taken = runs.load_newest(checkpoint, "analysis")[0]["settings"]["command"] != args.command
        except runs.DamagedError:  # which is moved aside, or told if it is to be gone on with
            taken = False
        except runs.UserError:
            pass
    if args.save.suffix != ".png" or taken:
        raise runs.UserError(f"--save {args.save}: a file name that ends in .png and is not that of a run is needed")


def save_figure(picture: Path, numbers: Any, draw: Callable[[Figure], None]) -> None:
    """Write what needed no run: the picture, and its numbers as JSON beside it."""
    runs.write_json(picture.with_suffix(".json"), numbers)
    runs.save_picture(picture, draw)
    print(f"\nwritten to {picture} and {picture.with_suffix('.json')}")


# ============================================================================================================
# Sec. 3.1, α is not the strength of an operation: Fig. 1, 2 and 7
# ============================================================================================================


def rank_correlation(first: Sequence[Any], second: Sequence[Any]) -> float | None:
    """Kendall's τ-b between two orders of the same things, of values of any kind that can be compared. None where one
    of the two holds all things equal."""
    places = [[sorted(set(values)).index(value) for value in values] for values in (first, second)]
    if any(len(set(each)) < 2 for each in places):
        return None
    return float(kendalltau(*places).statistic)


def in_digits(tau: float | None) -> str:
    return "-" if tau is None else f"{tau:.2f}"


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
        print(f"| {words} | {result[name]['agrees']} of {result['edges']} edges | {in_digits(result[name]['tau'])} |")


def strengths(
    args: Namespace,
    edges_of: Callable[[Supernet], list[tuple[str, int]]],
    draw: Callable[[SelectionSettings, Figure, list[Record]], None],
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
    print_agreement(measured(args, how, loaded, measures, show_strength, partial(draw, settings), agreement))


def undecided(supernet: Supernet, cell_types: Sequence[str]) -> list[tuple[str, int]]:
    return [(cell_type, edge) for cell_type in cell_types for edge in supernet.undecided(cell_type)]


def fig1(args: Namespace) -> None:
    """Fig. 1 and 7: softmax(α) of all operations of random edges beside their strength, and the rank correlation"""
    generator = random.Random(args.seed)

    def edges_of(supernet: Supernet) -> list[tuple[str, int]]:
        edges = undecided(supernet, supernet.space.cell_types)
        return generator.sample(edges, min(args.edges, len(edges)))

    strengths(args, edges_of, draw_strengths)


def draw_strengths(how: SelectionSettings, figure: Figure, records: list[Record]) -> None:
    """For every edge softmax(α) of its operations, on the left axis, and their strength, on the right one, which points
    down for a loss: the higher of two hatched bars is always the stronger operation."""
    metric, columns = how.metric, min(3, len(records))
    rows = -(-len(records) // columns)
    figure.set_size_inches(1 + 3.6 * columns, 0.6 + 3 * rows)
    several = len({record["supernet"] for record in records}) > 1
    for axes, record in zip(figure.subplots(rows, columns, squeeze=False).flat, records, strict=False):
        names, places = list(record["operations"]), np.arange(len(record["operations"]))
        weights = [each["magnitude"]["weight"] for each in record["operations"].values()]
        reached = [each["discretization"][metric] for each in record["operations"].values()]
        axes.bar(places - 0.2, weights, 0.4, color=runs.BLUE, label="softmax(α)")
        axes.set_ylim(0, 1.15 * max(weights))
        axes.set_ylabel("softmax(α)", color=runs.BLUE)
        axes.set_xticks(places, names, fontsize=8, rotation=30, ha="right", rotation_mode="anchor")
        right = axes.twinx()
        worst, best = (min(reached), max(reached)) if metric == "accuracy" else (max(reached), min(reached))
        margin = 0.25 * (best - worst) or (1.0 if metric == "accuracy" else -0.01)
        height, foot = np.array(reached) - worst + margin, worst - margin
        right.bar(places + 0.2, height, 0.4, bottom=foot, **HATCHED)
        right.set_ylim(foot, best + margin / 2)
        right.set_ylabel({"accuracy": "accuracy (%)", "loss": "loss (nats), downwards"}[metric], color="#9a5a00")
        tau = record["tau"]["magnitude"]
        where = f"{runs.CELL_NAMES[record['cell']]}, edge {record['edge'][0]}→{record['edge'][1]}"
        name = f"{runs.shown(Path(record['supernet']).stem)}\n" if several else ""
        axes.set_title(f"{name}{where}\nrank correlation τ = {in_digits(tau)}", fontsize=9.5)
    for axes in figure.axes[len(records) : rows * columns]:
        axes.axis("off")
    title = f"softmax(α) (plain) and discretisation {metric} (hatched), epochs of tuning: {how.tune_epochs}"
    figure.suptitle(title, fontsize=11)


def fig2(args: Namespace) -> None:
    """Fig. 2: the operations that α chooses on all edges of a cell beside the strongest ones, each edge by itself"""

    def edges_of(supernet: Supernet) -> list[tuple[str, int]]:
        space = supernet.space
        cell_type = args.cell or space.cell_types[0]
        if cell_type not in space.cell_types:
            raise runs.UserError(f"--cell {cell_type}: the space {space.name} has {', '.join(space.cell_types)}")
        if supernet.decided(cell_type):
            raise runs.UserError(f"edges of the {runs.CELL_NAMES[cell_type]} were decided during the search")
        return undecided(supernet, [cell_type])

    def draw(how: SelectionSettings, figure: Figure, records: list[Record]) -> None:
        figure.set_size_inches(15, 1 + 0.42 * len(records))
        titles = {"magnitude": "(a) largest α", "discretization": f"(b) strength: best discretisation {how.metric}"}
        for axes, (criterion, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
            operations = tuple((record["chosen"][criterion], *record["edge"]) for record in records)
            inputs = operations[0][2]  # the first node that is fed
            concat = range(inputs, 1 + operations[-1][2]) if inputs == 2 else operations[-1][2:]
            cell = DiscreteCell(operations, inputs, tuple(concat))
            runs.draw_cell(axes, cell, f"{title}, {runs.CELL_NAMES[records[0]['cell']]}")

    strengths(args, edges_of, draw)


# ============================================================================================================
# Sec. 3.2, skip connections: Fig. 3, Table 1, Proposition 1; and the curvature in α
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
        print(f"| {name} | {len(curve)} | {' | '.join(ends)} | {in_digits(tau)} |")
    runs.move_aside(args.save, args.save.with_suffix(".json"))
    save_figure(args.save, curves, lambda figure: draw_gaps(figure, curves))


def draw_gaps(figure: Figure, curves: dict[str, list[Record]]) -> None:
    """The gap against validation accuracy, and against the epoch."""
    figure.set_size_inches(9.5, 4.2)
    for axes, x in zip(figure.subplots(1, 2, sharey=True), ("valid_accuracy", "epoch"), strict=True):
        for (name, curve), (colour, marker, style) in zip(curves.items(), itertools.cycle(LOOKS), strict=False):
            xs, ys = ([record[key] for record in curve] for key in (x, "skip_gap"))
            look = {"color": colour, "marker": marker, "label": runs.shown(Path(name).stem) if x == "epoch" else None}
            axes.plot(xs, ys, **look, linestyle=style, linewidth=1, markersize=3.5)
            axes.plot(xs[-1], ys[-1], color=colour, marker=marker, markersize=9, markeredgecolor="black")
        axes.axhline(0, color=runs.GREY, linewidth=0.8)
        axes.set_xlabel(AXES[x])
    figure.axes[0].set_ylabel("mean(α_skip − α_conv), softmaxed")
    figure.legend(loc="outside lower center", ncols=3)
    figure.suptitle("the gap over a search, the last epoch with the large mark", fontsize=11)


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
    test = trained.data.test.of(order, args.seed)

    def accuracies(kind: str, network: nn.Module, pairs: list[list[Pair]], shuffle: int, progress: Progress) -> Record:
        """Before any shuffle, which is number 0, or with one."""
        generator = random.Random(f"{args.seed} {kind} {shuffle}")
        with swapped([generator.choice(choices) for choices in pairs if choices] if shuffle else []):
            usual = of_batch = evaluate(network, test, batch, progress=progress).accuracy
            if network is not trained.supernet:
                with batch_statistics(network):
                    of_batch = evaluate(network, test, batch, progress=progress).accuracy
        return {"network": kind, "shuffle": shuffle, "test_accuracy": usual, "with_batch_statistics": of_batch}

    measures = [partial(accuracies, *each, shuffle) for each in shuffled for shuffle in range(args.shuffles + 1)]
    chance = 100 / len(trained.data.classes)
    records = measured(
        args,
        {"shuffles": args.shuffles, **asdict(training)},
        [trained],
        measures,
        lambda record: f"{record['network']} {record['test_accuracy']:.2f}%",
        lambda figure, records: draw_shuffles(figure, records, chance),
        before_and_after,
    )
    print(f"\nTable 1: test accuracy (%) on {Path(settings['dataset']).name}, {args.shuffles} shuffles, mean ± sd\n")
    print("| | paper (CIFAR-10): before | after | here: before | after ", end="")
    print("| norms with batch statistics: before | after |\n" + "|---" * 7 + "|")
    for kind, each in before_and_after(records).items():
        of_paper = "{:.2f} | {:.2f} ± {:.2f}".format(*TABLE_1[kind])
        own = (f"{each[name]['before']:.2f} | {spread(each[name]['after'])}" for name in NORMS)
        print(f"| {kind} | {of_paper} | {' | '.join(own)} |")


@contextlib.contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Within the context the norms take the statistics of the batch, as those of a supernet always do, and leave their
    running ones as they are."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train().track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.eval().track_running_stats = True


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
                lambda figure, records: runs.draw_retraining(figure, records, kind),
            )
    return network


# What the norms of VGG and ResNet take in evaluation; those of a supernet always take the statistics of the batch
NORMS = {
    "test_accuracy": "VGG and ResNet with running statistics",
    "with_batch_statistics": "VGG and ResNet with statistics of the batch",
}


def before_and_after(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """By network and by NORMS the test accuracy before any shuffle, those after each, and their mean and deviation."""
    result: dict[str, dict[str, Any]] = {}
    for kind in dict.fromkeys(record["network"] for record in records):
        result[kind] = {}
        for name in NORMS:
            before, *after = (record[name] for record in records if record["network"] == kind)
            figures = {"mean": mean(after), "sd": stdev(after) if len(after) > 1 else None} if after else {}
            result[kind][name] = {"before": before, "after": after, **figures}
    return result


def draw_shuffles(figure: Figure, records: list[Record], chance: float) -> None:
    """Test accuracy before and after shuffling, by network, every shuffle as a dot; a panel for each of NORMS."""
    figure.set_size_inches(9, 4)
    networks = before_and_after(records)
    for axes, (name, title) in zip(figure.subplots(1, 2, sharey=True), NORMS.items(), strict=True):
        for place, each in enumerate(of_network[name] for of_network in networks.values()):
            axes.bar(place - 0.2, each["before"], 0.38, color=runs.BLUE, label="before")
            axes.text(place - 0.2, each["before"] + 2, f"{each['before']:.1f}", ha="center", fontsize=9)
            if each["after"]:
                axes.bar(place + 0.2, each["mean"], 0.38, **HATCHED, label="after, mean")
                dots = place + 0.2 + 0.26 * ((np.arange(len(each["after"])) + 0.5) / len(each["after"]) - 0.5)
                axes.plot(dots, each["after"], ".", color="black", markersize=5, label="after, each shuffle")
                axes.text(place + 0.2, max(each["after"]) + 2, f"{each['mean']:.1f}", ha="center", fontsize=9)
        axes.axhline(chance, color=runs.GREY, linestyle="-.", linewidth=1, label="chance")
        axes.set_xticks(range(len(networks)), networks)
        axes.set_ylim(0, 112)
        axes.set_title(title, fontsize=10)
    figure.axes[0].set_ylabel("test accuracy (%)")
    legend = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=4, fontsize=8.5)


def proposition(args: Namespace) -> None:
    """Proposition 1: Var(x_e - m*) and Var(o_e(x_e) - m*) of every edge, the optimal α that follows, the learnt one"""
    loaded = [load_supernet(path, args) for path in checkpoints(args)]
    for trained in loaded:
        need_alpha(trained)
        if not branching(trained.supernet):
            raise runs.UserError(f"{trained.path}: no undecided edge has skip_connect and another operation")
    records = measured(
        args,
        {"images": args.images},
        loaded,
        [partial(variances, trained, args.images) for trained in loaded],
        lambda record: f"x_e closer on {closeness(record['edges'])['skip_closer']} of {len(record['edges'])} edges",
        draw_proposition,
        lambda records: {
            each["supernet"]: {of: closeness(each[of]) for of in ("edges", "untrained")} for each in records
        },
    )
    print("\n| | x_e closer to m* than o_e(x_e) | mean α_skip, softmaxed: optimal | learnt | τ of the two |")
    print("|---|---|---|---|---|")
    for record in records:
        for name, of in ((record["supernet"], "edges"), ("the same, untrained", "untrained")):
            found = closeness(record[of])
            numbers = f"{found['optimal_skip']:.3f} | {found['learnt_skip']:.3f} | {in_digits(found['tau'])}"
            print(f"| {name} | {found['skip_closer']} of {len(record[of])} edges | {numbers} |")


def variances(trained: Trained, count: int, progress: Progress) -> Record:
    """Proposition 1 on every edge of a supernet and, as a control, of the same before any training."""
    images, device = trained.sample(count)[0], trained.valid.labels.device
    runs.seed_step(trained.settings["seed"])
    space, classes, channels = trained.supernet.space, len(trained.data.classes), trained.data.channels
    untrained = trained.search.supernet(space, classes, channels).to(device)
    return {
        "supernet": trained.path.name,
        "valid_accuracy": trained.record["valid_accuracy"],
        "edges": edge_variances(trained.supernet, images),
        "untrained": edge_variances(untrained, images),
    }


def edge_variances(supernet: Supernet, images: Tensor) -> list[Record]:
    """By edge Var(x_e - m*) and Var(o_e(x_e) - m*), the optimum that follows, and α_skip softmaxed as in Eq. 2, the
    optimal one (`optimal_skip`) and the one learnt. Of the learnt α all operations but skip_connect and `none` count as
    one, with the sum of their weights (footnote 1). The proposition is about feature maps of one scale, and those of
    the supernet differ: `learnt_skip` has the weights times the deviations of what they weigh, which is how the two
    are really mixed, and `learnt_weight` the weights alone."""
    weights = {cell_type: rows.tolist() for cell_type, rows in supernet.weights().items()}
    found = []
    for (cell_type, edge), branch in branches(supernet, images).items():
        samples = branch.o, branch.x, branch.m
        optimum, (var_skip, var_conv) = proposition_1(*samples), proposition_1_simplified(*samples)
        shares = dict(zip(supernet.space.operations[cell_type][edge], weights[cell_type][edge], strict=True))
        skip = shares["skip_connect"]
        conv = sum(share for name, share in shares.items() if name not in ("skip_connect", "none"))
        mixed = skip * branch.scale_x / (skip * branch.scale_x + conv * branch.scale_o)
        found.append(
            {
                "cell": cell_type,
                "edge": list(supernet.space.edges[edge]),
                "var_skip": var_skip,
                "var_conv": var_conv,
                **{name: value if math.isfinite(value) else None for name, value in optimum._asdict().items()},
                "optimal_skip": math.exp(optimum.alpha_skip),
                "learnt_skip": mixed.mean().item(),
                "learnt_weight": skip / (skip + conv),
            }
        )
    return found


def closeness(edges: Sequence[Record]) -> dict[str, Any]:
    """Over the edges: on how many the skip connection is the closer one in variance, the means of the optimal and of
    the learnt α_skip, softmaxed, and how the two orders agree."""
    optimal, learnt = ([each[name] for each in edges] for name in ("optimal_skip", "learnt_skip"))
    return {
        "skip_closer": sum(each["var_skip"] < each["var_conv"] for each in edges),
        "optimal_skip": mean(optimal),
        "learnt_skip": mean(learnt),
        "tau": rank_correlation(optimal, learnt),
    }


def draw_proposition(figure: Figure, records: list[Record]) -> None:
    """The two variances, and the optimal against the learnt α_skip, an edge in each point; untrained ones hollow."""
    figure.set_size_inches(9.5, 5)
    places = figure.subplots(1, 2)
    axes_of = (("var_conv", "var_skip"), ("optimal_skip", "learnt_skip"))
    for cell_type, (colour, marker, _) in zip(runs.CELL_NAMES, LOOKS, strict=False):
        for of, face, when in (("untrained", "none", "before training"), ("edges", colour, "trained")):
            own = [edge for record in records for edge in record[of] if edge["cell"] == cell_type]
            look = {"marker": marker, "s": 30, "facecolor": face, "edgecolor": colour, "linewidth": 0.8}
            for axes, (x, y) in zip(places, axes_of, strict=True):
                if own:
                    label = f"{runs.CELL_NAMES[cell_type]}, {when}"
                    axes.scatter([edge[x] for edge in own], [edge[y] for edge in own], **look, label=label)
    left, right = places
    most = max(left.get_xlim()[1], left.get_ylim()[1])
    for axes, end in ((left, most), (right, 1.0)):
        axes.plot([0, end], [0, end], color=runs.GREY, linewidth=0.8, linestyle="--")
        axes.set(xlim=(-0.03 * end, 1.03 * end), ylim=(-0.03 * end, 1.03 * end))
    left.set(xlabel="Var(o_e(x_e) − m*)", ylabel="Var(x_e − m*)", title="below the line: x_e is closer to m*")
    right.set(xlabel="optimal α_skip, softmaxed (Proposition 1)", ylabel="learnt α_skip, softmaxed, at one scale")
    right.set_title("on the line: learnt as Proposition 1 says")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8.5)
    figure.suptitle("every edge of " + ", ".join(runs.shown(record["supernet"]) for record in records), fontsize=11)


def hessian(args: Namespace) -> None:
    """The largest eigenvalue of the Hessian of the validation loss in α, for every kept epoch of a search"""
    loaded = [load_supernet(path, args) for path in checkpoints(args)]
    measures, sources = [], []
    for trained in loaded:
        settings = runs.load_search(trained.path)["settings"]
        for path in {**runs.snapshots(trained.path), trained.record["epoch"]: trained.path}.values():
            checkpoint = runs.load_search(path)
            if checkpoint["settings"] != settings:
                raise runs.UserError(f"{path} was kept by another search than that of {trained.path}")
            state = checkpoint["state"]["bilevel"]["supernet"]
            runs.load_state(trained.supernet, state, path)
            if any(trained.supernet.undecided(cell_type) for cell_type in trained.supernet.space.cell_types):
                measures.append(partial(curvature, trained, state, checkpoint["records"][-1], args))
                sources.append(path)
    if not measures:
        raise runs.UserError(f"all edges of {loaded[0].path} are decided: the loss does not depend on α")
    records = measured(
        args,
        {"images": args.images},
        loaded,
        measures,
        lambda record: f"epoch {record['epoch']}: {record['eigenvalue']:.5f}",
        draw_curvature,
        lambda records: {"not_converged": sum(not record["converged"] for record in records)},
        sources,
    )
    print("\n| supernet | epoch | largest eigenvalue | residual | validation accuracy (%) |\n|---|---|---|---|---|")
    for record in records:
        value = f"{'' if record['converged'] else '≥ '}{record['eigenvalue']:.5f}"
        numbers = f"{value} | {record['residual']:.5f} | {record['valid_accuracy']:.2f}"
        print(f"| {record['supernet']} | {record['epoch']} | {numbers} |")
    if len(records) == len(loaded):
        print("\ntrain_search.py --keep-every N keeps more epochs")


def curvature(trained: Trained, state: dict[str, Any], last: Record, args: Namespace, progress: Progress) -> Record:
    """At one epoch, on a batch of clean validation images that is the same at every epoch (Zela et al., 2020, take a
    random one)."""
    trained.supernet.load_state_dict(state)
    product, size = alpha_hessian(trained.supernet, trained.sample(args.images))
    start = torch.randn(size, generator=torch.Generator().manual_seed(args.seed)).to(trained.valid.labels.device)
    found = largest_eigenvalue(product, start)._asdict()
    where = {"supernet": trained.path.name, "epoch": last["epoch"], "valid_accuracy": last["valid_accuracy"]}
    return {**where, "eigenvalue": found.pop("value"), **found}


def draw_curvature(figure: Figure, records: list[Record]) -> None:
    """The eigenvalue over the epochs, by supernet."""
    figure.set_size_inches(6, 4)
    axes = figure.subplots()
    names = dict.fromkeys(record["supernet"] for record in records)
    for name, (colour, marker, style) in zip(names, itertools.cycle(LOOKS), strict=False):
        own = [(record["epoch"], record["eigenvalue"]) for record in records if record["supernet"] == name]
        axes.plot(*zip(*own, strict=True), color=colour, marker=marker, linestyle=style, label=runs.shown(name))
    axes.set_xlabel(AXES["epoch"])
    axes.set_ylabel("largest eigenvalue of ∇²L_valid in α (nats)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8)


# ============================================================================================================
# Cells: Fig. 5 and 10-24
# ============================================================================================================


def cells(args: Namespace) -> None:
    """Fig. 5 and 10-24: the cells of architectures, published ones by name, others from genotype.json or from text"""
    found = [(text, runs.load_architecture(text)[0]) for text in args.archs]

    def draw(figure: Figure) -> None:
        columns = max(len(architecture.cells) for _, architecture in found)
        figure.set_size_inches(1 + 7 * columns, 4.6 * len(found))
        for row, (text, architecture) in zip(figure.subplots(len(found), columns, squeeze=False), found, strict=True):
            name = "" if text.lstrip().startswith(("Genotype", "|")) else f"{runs.shown(Path(text).stem)}: "
            for axes in row:
                axes.axis("off")
            for axes, (cell_type, cell) in zip(row, architecture.cells.items(), strict=False):
                runs.draw_cell(axes, cell, name + runs.CELL_NAMES[cell_type])

    numbers = []
    for text, architecture in found:
        operations = {kind: [name for name, _, _ in cell.operations] for kind, cell in architecture.cells.items()}
        convolutions = {kind: sum(map(is_convolution, names)) for kind, names in operations.items()}
        numbers.append({"name": text, "text": str(architecture), "convolutions": convolutions})
        print(f"{text}: {architecture}")
    runs.move_aside(args.save, args.save.with_suffix(".json"))
    save_figure(args.save, numbers, draw)


# ============================================================================================================
# The methods of Sec. 5 and 6
# ============================================================================================================


class Method(NamedTuple):
    """How a supernet is trained and an architecture selected from it. With SGAS nothing is left to select."""

    alpha: str = "bilevel"
    noise: str = "none"
    sgas: str = "none"
    criterion: str = "perturbation"
    tuned: bool = True

    @property
    def search(self) -> str:
        """A name for how the supernet is trained."""
        return "-".join(part for part in (self.alpha, self.noise, self.sgas) if part != "none")

    @property
    def selection(self) -> str:
        """A name for how the architecture is selected."""
        return self.criterion if self.tuned else f"{self.criterion}-untuned"


METHODS = {
    "DARTS": Method(criterion="magnitude", tuned=False),
    "DARTS+PT": Method(),
    "DARTS+PT-Mag": Method(criterion="magnitude"),
    "DARTS+PT (fix α)": Method(alpha="fixed"),
    "SDARTS-RS": Method(noise="gaussian", criterion="magnitude", tuned=False),
    "SDARTS-RS+PT": Method(noise="gaussian"),
    "SGAS": Method(sgas="magnitude", criterion="magnitude", tuned=False),
    "SGAS+PT": Method(sgas="perturbation", tuned=False),
}
OF_SECTION_6 = ("DARTS", "DARTS+PT", "DARTS+PT (fix α)")  # the columns of Tables 3 and 4, the curves of Fig. 4 and 8


def method_of(origin: dict[str, Any]) -> str | None:
    """The method by which an architecture was found, from what select.py says of it."""
    search, tuned = origin["search"], origin["tune_epochs"] > 0
    noise, sgas = search.get("noise", "none"), search.get("sgas", "none")
    trained = (search["alpha"], noise.replace("uniform", "gaussian"), sgas)
    for name, method in METHODS.items():
        selected = origin["criterion"] == method.criterion
        if method.criterion == "magnitude":
            selected = selected and tuned == method.tuned
        if trained == (method.alpha, method.noise, method.sgas) and (selected or method.sgas != "none"):
            return name + (", uniform" if noise == "uniform" else "")
    return None


# ============================================================================================================
# Many runs
# ============================================================================================================


class Study:
    """The runs behind a figure: their folder, and in `commands.json` the command that made each result, with the
    fingerprint of the file that it read. Only one study at a time can work in a folder."""

    def __init__(self, folder: Path, jobs: int, threads: int | None):
        need_one_process()
        self.folder, self.jobs, self.failed, self.stopping = folder, jobs, False, False
        self.children: list[subprocess.Popen] = []
        self.threads = threads or max(1, (os.cpu_count() or 1) // jobs)
        self.ledger = folder / "commands.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise runs.UserError(f"cannot work in {folder}: {error}") from None

    def run(self, wanted: dict[Path, list[str]], source: Callable[[Path], Path] | None = None) -> None:
        """Run the commands, by the result that each writes, that have not been run yet, `jobs` at a time. `source` is
        the file that a result was made from."""
        with runs.locked(self.ledger):
            try:
                done = dict(json.loads(self.ledger.read_text())) if self.ledger.exists() else {}
            except (OSError, ValueError, TypeError, RecursionError) as error:
                raise runs.UserError(f"cannot work in {self.folder}: {self.ledger.name}: {error}") from None
            self._run_missing(wanted, source, done)

    def _run_missing(
        self, wanted: dict[Path, list[str]], source: Callable[[Path], Path] | None, done: dict[str, str]
    ) -> None:

        def entry(save: Path) -> str:
            return shlex.join(wanted[save]) + (f"  # {runs.fingerprint(source(save))}" if source else "")

        missing = {
            save: command for save, command in wanted.items() if not save.exists() or done.get(save.name) != entry(save)
        }
        if not missing:
            return
        with ThreadPoolExecutor(self.jobs) as executor, tqdm(total=len(missing), unit="run") as bar:
            running = {executor.submit(self._run, save, command, bar): save for save, command in missing.items()}
            try:
                for each in as_completed(running):
                    if each.result():
                        done[running[each].name] = entry(running[each])
                        runs.write_json(self.ledger, done)
                        bar.update()
            except BaseException as error:
                self.failed, self.stopping = True, isinstance(error, runs.Stopped)
                for child in list(self.children) if self.stopping else ():
                    child.terminate()
                executor.shutdown(cancel_futures=True)
                raise

    def _run(self, save: Path, command: list[str], bar: tqdm) -> bool:
        """Whether it ran: not after another has failed."""
        if self.failed:
            return False
        bar.write(f"python {shlex.join(command)}", file=sys.stdout)
        script, *arguments = command
        how = ["--threads", str(self.threads), "--save", str(save), "--resume"]
        errors = None if self.jobs == 1 else subprocess.PIPE  # several at a time would write over one another
        line = [script, *arguments, *how]
        ended = run_script(line, self.children, lambda: self.stopping, stdout=subprocess.PIPE, stderr=errors)
        if self.stopping:
            return False
        if ended.returncode:
            self.failed = True
            said = [line for line in (ended.stderr or "").splitlines() if ": error: " in line]
            reason = said[-1] if said else f"ended with status {ended.returncode}"
            bar.write(f"failed, waiting for what else is running: {reason}", file=sys.stderr)
            raise runs.UserError(f"python {shlex.join(command)}: {reason}")
        bar.write(ended.stdout.strip().splitlines()[-1], file=sys.stdout)
        return True


# ============================================================================================================
# From methods to runs
# ============================================================================================================


def searched(args: Namespace, study: Study, spaces: Sequence[str], *more: str) -> dict[tuple[str, str, int], Path]:
    """The supernets of the methods asked for, by space, way of training and seed; `more` options for all of them."""
    options = [("--dataset", args.dataset), ("--data", args.data), ("--preset", args.preset), ("--device", args.device)]
    names = ("epochs", "batch_size", "channels", "layers", "image_size", "limit", "lr")
    options += [(f"--{name.replace('_', '-')}", getattr(args, name)) for name in names]
    given = [text for name, value in options if value is not None for text in (name, str(value))]
    dataset = Path(args.dataset or "digits").absolute().name
    supernets, commands = {}, {}
    for space in spaces:
        for method in (METHODS[name] for name in args.method):
            for seed in args.seeds:
                save = study.folder / f"{space}-{dataset}-{method.search}-{seed}.pt"
                how = [text for name in ("alpha", "noise", "sgas") for text in (f"--{name}", getattr(method, name))]
                each = ["train_search.py", "--space", space, *given, *how, "--seed", str(seed), *more]
                supernets[space, method.search, seed], commands[save] = save, each
    study.run(commands)
    return supernets


class Point(NamedTuple):
    """A supernet to select from by a method, and the seed of the selection."""

    method: str
    seed: int
    supernet: Path


def points_on(args: Namespace, supernets: dict[tuple[str, str, int], Path]) -> list[Point]:
    """Every method asked for at the supernets that are its own."""
    return [
        Point(name, seed, supernet)
        for name in args.method
        for (_, search, seed), supernet in supernets.items()
        if search == METHODS[name].search
    ]


def selected(study: Study, points: Sequence[Point], options: Sequence[str], tune_epochs: int | None) -> list[Path]:
    """The architectures that are selected at these points."""
    saves, commands, sources = [], {}, {}
    for name, seed, supernet in points:
        method = METHODS[name]
        epochs = tune_epochs if method.tuned else 0
        tuning = [] if epochs is None else ["--tune-epochs", str(epochs)]
        save = supernet.with_suffix(f".{method.selection}.json")
        how = ["--criterion", method.criterion, "--seed", str(seed), *tuning]
        commands[save] = ["select.py", "--ckpt", str(supernet), *how, *options]
        sources[save] = supernet
        saves.append(save)
    study.run(commands, sources.__getitem__)
    return saves


def retrained(args: Namespace, study: Study, architectures: dict[Path, int]) -> None:
    """Train the networks of these architectures, each with its seed, in the setting that belongs to the search."""
    commands, sources = {}, {}
    for architecture, seed in architectures.items():
        save = architecture.with_suffix(".network.pt")
        commands[save] = ["retrain.py", "--arch", str(architecture), "--seed", str(seed), "--device", args.device]
        sources[save] = architecture
    study.run(commands, sources.__getitem__)


def run_methods(args: Namespace, spaces: Sequence[str]) -> None:
    """Search, select and retrain by the methods asked for."""
    study = Study(args.folder, args.jobs, args.threads)
    points = points_on(args, searched(args, study, spaces))
    saves = selected(study, points, ("--device", args.device), args.tune_epochs)
    retrained(args, study, {save: point.seed for save, point in zip(saves, points, strict=True)})


class Result(NamedTuple):
    """A network that was trained from an architecture that was searched for."""

    method: str
    space: str
    dataset: str
    setting: str  # in words, what matters most of what networks must have in common to be compared
    same: str  # all of it, apart from the space and from how long the supernet was tuned
    tune_epochs: int  # 0 where nothing was tuned
    seed: int
    paper: bool  # whether search, selection and training had the preset of the paper
    test_error: float  # percent
    test_error_top5: float | None
    parameters: int
    seconds: dict[str, float]  # of search and selection


def saved_results(folder: Path) -> list[Result]:
    """What the finished networks in a folder say, by seed; of several in everything alike, the latest. Other files,
    damaged ones too, are passed over."""
    results = {}
    for path in sorted(folder.glob("*.pt"), key=lambda path: path.stat().st_mtime):
        with contextlib.suppress(runs.UserError, LookupError, TypeError, ValueError, AttributeError):
            network = runs.load_checkpoint(path, "network")
            origin, how, last = network["origin"], network["settings"], network["records"][-1]
            method, search = method_of(origin), origin["search"]
            if method and network["finished"]:
                each = Result(
                    method,
                    origin["space"],
                    how["dataset"],
                    in_words(search, how),
                    json.dumps([_common(search), *_how(origin), _common(how)], sort_keys=True),
                    0 if search.get("sgas", "none") != "none" else origin["tune_epochs"],
                    how["seed"],
                    search["preset"] == origin["preset"] == how["preset"] == "paper",
                    last["test_error"],
                    last.get("test_error_top5"),
                    network["parameters"],
                    origin["seconds"],
                )
                results[each.method, each.space, each.same, each.tune_epochs, each.seed, search["seed"]] = each
    return sorted(results.values(), key=lambda each: each.seed)


def _how(origin: dict[str, Any]) -> list[str]:
    """What they must have in common of a selection, beside how long it tuned."""
    return [origin["dataset"], origin["metric"], origin.get("tune", "fixed")]


def _common(settings: dict[str, Any]) -> dict[str, Any]:
    """What networks must have in common of these settings of a search or a training."""
    own = ("space", "data", "seed", "alpha", "noise", "sgas", "genotype")
    return {name: value for name, value in settings.items() if name not in own}


def in_words(search: dict[str, Any], how: dict[str, Any]) -> str:
    """The setting of a search and of a training."""
    parts = [Path(how["dataset"]).name, f"{how['preset']} preset"]
    if how["image_size"]:
        parts.append(f"{how['image_size']}x{how['image_size']} pixels")
    for verb, of in (("search", search), ("retraining", how)):
        images = f" of {of['limit']} images" if of["limit"] else ""
        parts.append(f"{verb}: {of['layers']} cells, C={of['channels']}, {of['epochs']} epochs{images}")
    return ", ".join(parts)


def comparable(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    """The results in groups that can be compared, each with its setting in words. What was not tuned stands in every
    group of its setting."""
    groups = []
    for same in dict.fromkeys(each.same for each in results):
        alike = [each for each in results if each.same == same]
        for tuning in sorted({each.tune_epochs for each in alike} - {0}) or [0]:
            words = alike[0].setting + (f", tuning: {tuning} epochs" if tuning else "")
            groups.append((words, [each for each in alike if each.tune_epochs in (0, tuning)]))
    return groups


def spread(values: Sequence[float]) -> str:
    return f"{mean(values):.2f} ± {stdev(values):.2f}" if len(values) > 1 else f"{values[0]:.2f}"


def by_seed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 3600 else f"{seconds / 3600:.1f} h"


# ============================================================================================================
# Retrained networks: Tables 2, 3 and 5
# ============================================================================================================

# Table 2, for DARTS+PT-Mag Sec. 6.2 and for fixed α Table 4: test error in percent on CIFAR-10 as mean and standard
# deviation and of the best, millions of parameters, GPU days of search and selection
TABLE_2 = {
    "DARTS": ("3.00 ± 0.14", "-", 3.3, 0.4),
    "DARTS+PT": ("2.61 ± 0.08", "2.48", 3.0, 0.8),
    "DARTS+PT-Mag": ("2.85", "-", "-", "-"),
    "DARTS+PT (fix α)": ("2.87", "-", "-", "-"),
    "SDARTS-RS": ("2.67 ± 0.03", "-", 3.4, 0.4),
    "SDARTS-RS+PT": ("2.54 ± 0.10", "2.44", 3.3, 0.8),
    "SGAS": ("2.66 ± 0.24", "-", 3.7, 0.25),
    "SGAS+PT": ("2.56 ± 0.10", "2.46", 3.9, 0.29),
}
# Test error in percent of the methods of OF_SECTION_6
TABLE_3 = {
    "cifar10": {
        "s1": (3.84, 3.50, 2.86), "s2": (4.85, 2.79, 2.59), "s3": (3.34, 2.49, 2.52), "s4": (7.20, 2.64, 2.58),
    },
    "cifar100": {
        "s1": (29.46, 24.48, 24.40), "s2": (26.05, 23.16, 23.30), "s3": (28.90, 22.03, 21.94),
        "s4": (22.85, 20.80, 20.66),
    },
    "svhn": {
        "s1": (4.58, 2.62, 2.39), "s2": (3.53, 2.53, 2.32), "s3": (3.41, 2.42, 2.32), "s4": (3.05, 2.42, 2.39),
    },
}  # fmt: skip
# Top-1 and top-5 test error in percent, millions of parameters
TABLE_5 = {"DARTS": (26.7, 8.7, 4.7), "DARTS+PT": (25.5, 8.0, 4.6)}


def table2(args: Namespace) -> None:
    """Table 2: all methods on the DARTS space, and Table 5: their architectures on ImageNet, from saved results"""
    if args.run:
        run_methods(args, [args.space])
    results = collected(args.folder, [args.space], args.method)
    for setting, group in comparable([each for each in results if each.dataset != "imagenet"]):
        print(f"\nTable 2: test error (%) on the space {args.space}; here: {setting}\n")
        print("| | paper, CIFAR-10 | best | M parameters | GPU days | here | best | by seed ", end="")
        print("| M parameters | search | selection |\n" + 11 * "|---" + "|")
        for name, own in by_method(group):
            errors = [each.test_error for each in own]
            size = mean(each.parameters for each in own) / 1e6
            costs = [span(mean(each.seconds[part] for each in own)) for part in ("search", "selection")]
            row = [
                *TABLE_2.get(name, 4 * "-"),
                spread(errors),
                f"{min(errors):.2f}",
                by_seed(errors),
                f"{size:.3f}",
                *costs,
            ]
            print(f"| {name} | {' | '.join(map(str, row))} |")
    for setting, group in comparable([each for each in results if each.dataset == "imagenet"]):
        print(f"\nTable 5: test error (%) on ImageNet; here: {setting}\n")
        print("| | paper: top-1, top-5, M parameters | here: top-1 | top-5 | M parameters |\n|---|---|---|---|---|")
        for name, own in by_method(group):
            errors = [spread([each.test_error for each in own]), spread([each.test_error_top5 for each in own])]
            of_paper = ", ".join(map(str, TABLE_5.get(name, "-")))
            print(f"| {name} | {of_paper} | {' | '.join(errors)} | {mean(each.parameters for each in own) / 1e6:.1f} |")
    write_results(args.folder / "table2.json", results)


def table3(args: Namespace) -> None:
    """Table 3: DARTS, DARTS+PT and DARTS+PT (fix α) on S1-S4, from saved results"""
    if args.run:
        run_methods(args, args.space)
    results = collected(args.folder, args.space, args.method)
    for setting, group in comparable(results):
        print(f"\nTable 3: test error (%) on {setting}\n")
        print("|" + "".join(f" | {name}, paper | here | by seed" for name in args.method) + " |")
        print("|---" * (1 + 3 * len(args.method)) + "|")
        of_paper = TABLE_3.get(group[0].dataset, {})
        for space in args.space:
            cells = []
            for name in args.method:
                known = space in of_paper and name in OF_SECTION_6
                cells.append(f"{of_paper[space][OF_SECTION_6.index(name)]:.2f}" if known else "-")
                own = [each.test_error for each in group if (each.space, each.method) == (space, name)]
                cells += [spread(own), by_seed(own)] if own else ["-", "-"]
            print(f"| {space.upper()} | {' | '.join(cells)} |")
    write_results(args.folder / "table3.json", results)


def collected(folder: Path, spaces: Sequence[str], methods: Sequence[str]) -> list[Result]:
    """The saved results on these spaces by these methods, in either form of noise. Raises UserError without any."""
    every = [each for each in saved_results(folder) if each.space in spaces]
    results = [each for each in every if each.method.removesuffix(", uniform") in methods]
    if not results:
        found_on = ", ".join(spaces)
        raise runs.UserError(
            f"no networks in {folder} of architectures that were found on {found_on}; --run makes them"
        )
    return results


def by_method(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    """In the order of METHODS."""
    names = sorted({each.method for each in results}, key=lambda name: [*METHODS].index(name.removesuffix(", uniform")))
    return [(name, [each for each in results if each.method == name]) for name in names]


def write_results(path: Path, results: Sequence[Result]) -> None:
    runs.write_json(path, [each._asdict() for each in results])
    print(f"\nwritten to {path}")


# ============================================================================================================
# NAS-Bench-201: Table 4, Fig. 4 and Fig. 8
# ============================================================================================================

# Test error in percent on CIFAR-10
TABLE_4 = {"DARTS": 45.7, "DARTS+PT": 11.89, "DARTS+PT (fix α)": 6.20}


def luck(values: Sequence[float], among: Sequence[float], draws: int = 100_000) -> float:
    """How often the mean of as many architectures, drawn at random, is as low as that of these."""
    generator = random.Random(0)
    target, count = sum(values), len(values)
    return sum(sum(generator.choices(among, k=count)) <= target for _ in range(draws)) / draws


def true_errors(
    args: Namespace, study: Study, benchmark: dict[str, dict[str, float]], points: Sequence[Point]
) -> list[dict[str, float]]:
    """Of what is selected at these points, in percent, by data set."""
    options = ("--device", args.device, "--benchmark", str(args.benchmark))
    saves = selected(study, points, options, args.tune_epochs)
    return [benchmark[str(runs.load_genotype(save)[0])] for save in saves]


def table4(args: Namespace) -> None:
    """Table 4: the true errors of what the methods find on NAS-Bench-201, and what is saved of the DARTS space"""
    benchmark = runs.load_benchmark(args.benchmark)
    study = Study(args.folder, args.jobs, args.threads)
    points = points_on(args, searched(args, study, ["nb201"], "--keep-every", str(args.keep_every)))
    found = true_errors(args, study, benchmark, points)
    on_darts: dict[str, list[float]] = {name: [] for name in args.method}
    for each in saved_results(args.folder):
        in_question = each.space in ("darts", "darts+none") and each.dataset == "cifar10" and each.method in on_darts
        if each.paper and in_question:
            on_darts[each.method].append(each.test_error)
    everything = [errors["cifar10"] for errors in benchmark.values()]
    print(f"\nTable 4: test error (%) on CIFAR-10, seeds {' '.join(map(str, args.seeds))}, mean ± standard deviation\n")
    print("| | NAS-Bench-201, paper | here | by seed | as good by luck | DARTS space, paper | here |")
    print("|---|---|---|---|---|---|---|")
    for name in args.method:
        values = [errors["cifar10"] for point, errors in zip(points, found, strict=True) if point.method == name]
        of_paper = f"{TABLE_4[name]:.2f}" if name in TABLE_4 else "-"
        there = spread(on_darts[name]) if on_darts[name] else "-"
        share = 100 * luck(values, everything)
        lucky = f"{share:.2f}%" if share >= 0.01 else "< 0.01%"
        on_darts_paper = TABLE_2[name][0]
        print(f"| {name} | {of_paper} | {spread(values)} | {by_seed(values)} | {lucky} | {on_darts_paper} | {there} |")
    middle = f"median {median(everything):.2f}, best {min(everything):.2f}"
    print(f"| a random architecture | - | {spread(everything)} | {middle} | - | - | - |")
    content = {
        "nb201": [
            {"method": point.method, "seed": point.seed, "test_error": errors}
            for point, errors in zip(points, found, strict=True)
        ],
        "random": {"mean": mean(everything), "sd": stdev(everything)},
        "darts_space": on_darts,
    }
    runs.write_json(study.folder / "table4.json", content)
    print(f"\nwritten to {study.folder / 'table4.json'}")


def draw_trajectories(
    figure: Figure, points: list[dict[str, Any]], panels: dict[str, float | None], x: str, y: str
) -> None:
    """Fig. 4, 6, 8 and 9: a quantity `y` of AXES over `x`, by method, mean and standard deviation over the seeds; a
    panel for each data set or space, with the average of all architectures if it is known."""
    figure.set_size_inches(3 + 2.4 * len(panels), 3.9)  # small, so that its text can be read where it is shown
    names = list(dict.fromkeys(point["method"] for point in points))
    seeds = len({point["seed"] for point in points})
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (panel, of_all) in zip(places, panels.items(), strict=True):
        for name, (colour, marker, style) in zip(names, itertools.cycle(LOOKS), strict=False):
            values: dict[int, list[float]] = {}
            for point in points:
                if point["method"] == name and panel in point[y]:
                    values.setdefault(point[x], []).append(point[y][panel])
            at = sorted(values)
            several = [values[each] for each in at]
            means = np.array([np.mean(each) for each in several])
            deviations = np.array([np.std(each, ddof=1) if len(each) > 1 else 0.0 for each in several])
            axes.plot(at, means, color=colour, marker=marker, linestyle=style, label=name)
            axes.fill_between(at, means - deviations, means + deviations, color=colour, alpha=0.15, linewidth=0)
        if of_all is not None:
            axes.axhline(of_all, color=runs.GREY, linestyle="-.", linewidth=1, label="average of all architectures")
        axes.set_title(panel)
        axes.set_xlabel(AXES[x])
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.axes[0].set_ylabel(AXES[y])
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(f"mean and standard deviation over {seeds} seeds" if seeds > 1 else "one seed", fontsize=10)


def save_trajectories(picture: Path, points: list[Record], average: dict[str, float | None], x: str, y: str) -> None:
    """A figure of curves."""
    numbers = {"points": points, "average": average}
    save_figure(picture, numbers, lambda figure: draw_trajectories(figure, points, average, x, y))


def average_errors(benchmark: dict[str, dict[str, float]]) -> dict[str, float]:
    """Of all architectures, in percent, by data set."""
    return {name: mean(errors[name] for errors in benchmark.values()) for name in runs.BENCHMARKED}


def fig4(args: Namespace) -> None:
    """Fig. 4 and 8: true test error on NAS-Bench-201 over the epochs of the search, selected from kept snapshots"""
    benchmark = runs.load_benchmark(args.benchmark)
    study = Study(args.folder, args.jobs, args.threads)
    points, at = [], []
    supernets = searched(args, study, ["nb201"], "--keep-every", str(args.keep_every))
    for (_, search, seed), supernet in supernets.items():
        epochs = runs.load_search(supernet)["settings"]["epochs"]
        kept = {epoch: runs.snapshot(supernet, epoch) for epoch in range(args.keep_every, epochs, args.keep_every)}
        missing = [path.name for path in kept.values() if not path.exists()]
        if missing:
            raise runs.UserError(f"{supernet} was trained without --keep-every {args.keep_every}: no {missing[0]}")
        for name in (name for name in args.method if METHODS[name].search == search):
            points += [Point(name, seed, path) for path in (*kept.values(), supernet)]
            at += [*kept, epochs]
    found = true_errors(args, study, benchmark, points)
    curves = [
        {"method": point.method, "seed": point.seed, "epoch": epoch, "test_error": errors}
        for point, epoch, errors in zip(points, at, found, strict=True)
    ]
    save_trajectories(study.folder / "fig4.png", curves, average_errors(benchmark), "epoch", "test_error")


# ============================================================================================================
# Ablations: Fig. 6 and Fig. 9
# ============================================================================================================


def fig6(args: Namespace) -> None:
    """Fig. 6: validation accuracy during selections from one supernet by different criteria, from their logs"""
    points: dict[tuple[str, int, int], dict[str, Any]] = {}
    for log in args.logs:
        if log.suffix != ".jsonl":
            raise runs.UserError(f"{log}: the log of a selection, genotype.jsonl, is needed")
        checkpoint = runs.load_checkpoint(log.with_suffix(".pt"), "selection")  # its records are those of the log
        how = checkpoint["settings"]
        if not checkpoint["records"]:
            raise runs.UserError(f"{log}: nothing was selected")
        for record in checkpoint["records"]:
            point = {"method": how["criterion"], "seed": how["seed"], "round": record["round"]}
            key = tuple(point.values())
            if key in points:
                raise runs.UserError(f"{log} is another selection by {how['criterion']} with seed {how['seed']}")
            points[key] = point | {"valid_accuracy": {how["space"]: record["valid_accuracy"]}}
    panels = {space: None for point in points.values() for space in point["valid_accuracy"]}
    runs.move_aside(args.save, args.save.with_suffix(".json"))
    save_trajectories(args.save, list(points.values()), panels, "round", "valid_accuracy")


def fig9(args: Namespace) -> None:
    """Fig. 9: how much tuning after every decision matters: true error on nb201, else validation accuracy"""
    benchmark = runs.load_benchmark(args.benchmark) if args.benchmark else {}
    study = Study(args.folder, args.jobs, args.threads)
    commands, sources, points = {}, {}, {}
    for supernet in args.ckpt:
        how = runs.load_search(supernet)["settings"]
        for epochs in dict.fromkeys(args.tune_epochs):
            save = study.folder / f"{supernet.stem}.tune{epochs}.json"
            if save in commands:
                raise runs.UserError(f"--ckpt: two supernets have the name {supernet.name}")
            command = ["select.py", "--ckpt", str(supernet), "--tune-epochs", str(epochs), "--seed", str(how["seed"])]
            command += ["--device", args.device]
            commands[save] = command + (["--benchmark", str(args.benchmark)] if benchmark else [])
            sources[save] = supernet
            method = method_of({"search": how, "criterion": "perturbation", "tune_epochs": 1}) or "perturbation"
            points[save] = {"method": method, "seed": how["seed"], "tune_epochs": epochs}
    study.run(commands, sources.__getitem__)
    for save, point in points.items():
        architecture, found = runs.load_genotype(save)
        if benchmark:
            point["test_error"] = benchmark[str(architecture)]
        else:
            point["valid_accuracy"] = {found["space"]: found["valid_accuracy"]}
    y = "test_error" if benchmark else "valid_accuracy"
    panels = average_errors(benchmark) if benchmark else {name: None for each in points.values() for name in each[y]}
    save_trajectories(study.folder / "fig9.png", list(points.values()), panels, "tune_epochs", y)


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
    parser.add_argument("--cell", choices=tuple(runs.CELL_NAMES), help="the first of the space by default")
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


def images_options(name: str, default: int, parser: ArgumentParser) -> None:
    """The options of a command that looks at one batch of validation images."""
    parser.add_argument("--images", type=runs.whole(2), default=default, metavar="N", help=f"{default} by default")
    add_figure_options(parser, name)


def cells_options(parser: ArgumentParser) -> None:
    text = "published name, genotype.json, Genotype(...) or |op~0|+...; two of DARTS+PT by default"
    parser.add_argument("archs", nargs="*", default=["DARTS_PT_S2_1", "DARTS_PT_S4_1"], metavar="ARCH", help=text)
    add_picture_option(parser, "cells")


def add_study_options(parser: ArgumentParser) -> None:
    """The options of a command that starts others."""
    parser.add_argument("--folder", type=Path, default=Path("results"), metavar="DIR", help="of all results")
    parser.add_argument("--jobs", type=runs.whole(1), default=1, metavar="N", help="runs at a time")
    runs.add_machine_options(parser)


def add_method_options(parser: ArgumentParser, methods: Sequence[str]) -> None:
    """The options of a command that searches and selects by several methods with several seeds."""
    text = f"repeatable; {', '.join(methods)} by default" if methods != tuple(METHODS) else "repeatable; all by default"
    parser.add_argument("--method", action="append", choices=(*METHODS, "all"), help=text)
    parser.set_defaults(methods=methods)
    parser.add_argument("--seeds", nargs="+", type=runs.whole(0), default=[0, 1, 2, 3, 4], metavar="N")
    parser.add_argument("--tune-epochs", type=runs.whole(0), metavar="N", help="after every decision")
    add_study_options(parser)
    runs.add_data_options(parser)
    runs.add_training_options(parser.add_argument_group("of the search"))


def nb201_options(parser: ArgumentParser) -> None:
    parser.add_argument("--benchmark", required=True, type=Path, metavar="CSV", help="true accuracies of all cells")
    parser.add_argument("--keep-every", type=runs.whole(1), default=5, metavar="N", help="snapshots, 5 by default")
    add_method_options(parser, OF_SECTION_6)


def fig6_options(parser: ArgumentParser) -> None:
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="genotype.jsonl, its genotype.pt beside it")
    add_picture_option(parser, "fig6")


def fig9_options(parser: ArgumentParser) -> None:
    parser.add_argument("--ckpt", required=True, nargs="+", type=Path, metavar="FILE", help="supernets")
    parser.add_argument("--benchmark", type=Path, metavar="CSV", help="true accuracies on NAS-Bench-201")
    epochs = {"nargs": "+", "type": runs.whole(0), "default": [0, 1, 2, 5, 10], "metavar": "N"}
    parser.add_argument("--tune-epochs", **epochs, help="0 1 2 5 10 by default")
    add_study_options(parser)


def table2_options(parser: ArgumentParser) -> None:
    parser.add_argument("--space", choices=("darts", "darts+none"), default="darts", help="darts by default")
    parser.add_argument("--run", action="store_true", help="first run what is missing: search, selection, retraining")
    add_method_options(parser, tuple(METHODS))


def table3_options(parser: ArgumentParser) -> None:
    parser.add_argument("--space", nargs="+", choices=("s1", "s2", "s3", "s4"), default=["s1", "s2", "s3", "s4"])
    parser.add_argument("--run", action="store_true", help="first run what is missing: search, selection, retraining")
    add_method_options(parser, OF_SECTION_6)


COMMANDS: dict[str, tuple[Callable[[Namespace], None], Callable[[ArgumentParser], None]]] = {
    "fig1": (fig1, fig1_options),
    "fig2": (fig2, fig2_options),
    "fig3": (fig3, fig3_options),
    "table1": (table1, table1_options),
    "proposition": (proposition, partial(images_options, "proposition", 128)),
    "hessian": (hessian, partial(images_options, "hessian", 64)),
    "cells": (cells, cells_options),
    "fig4": (fig4, nb201_options),
    "fig6": (fig6, fig6_options),
    "fig9": (fig9, fig9_options),
    "table2": (table2, table2_options),
    "table3": (table3, table3_options),
    "table4": (table4, nb201_options),
}


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = runs.Parser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=runs.Parser)
    for name, (function, add_options) in COMMANDS.items():
        add_options(commands.add_parser(name, help=function.__doc__, description=function.__doc__))
    args = parser.parse_args(argv)
    if "save" in args:
        check_picture(args)
    if "ckpt" in args and not args.ckpt and "dataset" in args and (args.dataset or args.data):
        raise runs.UserError("--dataset and --data are for the supernets that --ckpt names")
    if "method" in args:
        chosen = args.method or args.methods
        args.method = [name for name in METHODS if name in chosen or "all" in chosen]
        args.seeds = list(dict.fromkeys(args.seeds))
    return args


def run(argv: Sequence[str] | None) -> None:
    args = parse(argv)
    COMMANDS[args.command][0](args)


def main(argv: Sequence[str] | None = None) -> int:
    return runs.command("analyze.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
