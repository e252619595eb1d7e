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

import copy
import itertools
import json
import math
import random
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from statistics import fmean, mean, stdev
from typing import Any

import torch
from scipy.stats import kendalltau
from torch import Tensor, nn
from torch.func import replace_all_batch_norm_modules_
from torchvision.models.resnet import BasicBlock
from torchvision.ops import Conv2dNormActivation

import plots
import ptnas
import runs
from data import Images, Trained, load_supernet
from genotypes import SPACES, Arch, is_convolution
from plots import ALPHA, TRUTH, Figure
from ptnas import Record

Edge = tuple[str, int]  # cell type, number
Draw = Callable[[Figure, list[Record], list[Record], str, str], None]  # as `plots.draw_ranks`

# ==== Trained supernets, and measurements on them ===================================================================


def load_supernets(args: Namespace) -> list[Trained]:
    """Returns the supernets of --ckpt, with the images of their search or with those of --dataset. Raises UserError."""
    paths = args.ckpt or [Path("supernet.pt")]
    if not args.ckpt and not paths[0].exists():
        raise runs.UserError("there is no supernet.pt here: python train_search.py --space s2 makes one")
    if len({path.name for path in paths}) < len(paths):
        raise runs.UserError("--ckpt: two supernets have the same file name, which must tell them apart")
    device = runs.set_up(args)
    return [load_supernet(path, device, args.dataset, args.data, other_images=bool(args.dataset)) for path in paths]


def measure_all(
    args: Namespace, supernets: Sequence[Trained], standard: dict[str, Any], values: dict[str, Any],
    plan: Sequence[Callable[[], Record]], unit: str, draw: Callable[[Figure, list[Record]], None],
    summarise: Callable[[list[Record]], Any],
) -> list[Record]:  # fmt: skip
    """Takes the measurements of a plan, as a run, and returns their records. A measurement leaves its network as it
    was, so there is no state. Writes the records with a summary as JSON, and a picture.

    values: the settings that the measurements depend on, beside the supernets and the seed; standard: of the preset.
    """
    reads, save, device = supernets[0].reads, args.save.with_suffix(".json"), supernets[0].bilevel.w[0].device
    settings = {
        "command": args.command,
        "datasets": [trained.reads.dataset for trained in supernets],
        "files": [trained.path.name for trained in supernets],
        "fingerprints": [runs.fingerprint(trained.path) for trained in supernets],
        "seed": args.seed,
        **values,
    }
    what = f"{args.command} of {', '.join(settings['files'])}, preset {reads.preset}, seed {args.seed}"

    def picture(figure: Figure) -> None:
        draw(figure, run.records)

    with runs.Run(save, "analysis", settings, args.resume) as run:
        if not run.finished:
            runs.announce(f"{what}, on {device}, {reads.dataset}", standard, values, save)
            run.begin({"fingerprint": [trained.data.fingerprint for trained in supernets]})
            steps = (measure() for measure in plan[len(run.records) :])
            for record in run.follow(steps, len(plan), unit):
                run.keep()
                run.draw(picture)
            runs.write_json(save, {**settings, "summary": summarise(run.records), "measured": run.records})
            run.finish(picture)
    print(f"\nwritten to {run.picture} and {save}")
    return run.records


def save_figure(picture: Path, numbers: Any, draw: Callable[[Figure], None]) -> None:
    """Writes a picture that needs no measurement, and its numbers as JSON beside it."""
    save = picture.with_suffix(".json")
    runs.move_aside(picture, save)
    runs.write_json(save, numbers)
    runs.save_picture(picture, draw)
    print(f"\nwritten to {picture} and {save}")


def correlate_ranks(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Returns Kendall's τ-b between two orders of the same things, None if one of them holds all things equal."""
    several = len(set(first)) > 1 and len(set(second)) > 1
    return float(kendalltau(first, second).statistic) if several else None


# ==== Sec. 3.1, α may not represent the operation strength: Fig. 1, 2 and 7 =========================================

Truth = dict[tuple[int, str], float]  # of NAS-Bench-201, by edge and operation


def average_truth(benchmark: runs.Benchmark) -> Truth:
    """Returns the truth about each operation on each edge of NAS-Bench-201: the mean true test error, in percent
    on CIFAR-10, of the 3,125 cells that have it there."""
    errors: dict[tuple[int, str], list[float]] = {}
    for text, by_dataset in benchmark.items():
        for place in enumerate(Arch.from_text(text).operations):
            errors.setdefault(place, []).append(by_dataset["cifar10"])
    return {place: fmean(each) for place, each in errors.items()}


def draw_fresh(trained: Trained, count: int) -> Images:
    """Returns random training images of the data set that the search left out because of its --limit: neither w nor α
    has seen them. Raises UserError if there are fewer."""
    used = trained.data.train
    unused = torch.tensor(sorted(set(range(len(used.labels))) - set(used.indices.tolist())), dtype=torch.long)
    if len(unused) < count:
        raise runs.UserError(f"--images {count}: the search of {trained.path} left {len(unused)} images out")
    order = torch.randperm(len(unused), generator=torch.Generator().manual_seed(trained.reads.seed))
    return replace(used, indices=unused[order[:count]])


def measure_strength(
    judge: ptnas.Judge, cell_type: str, edge: int, tunings: Sequence[int], repeats: int, facts: Record,
    fresh: Sequence[Images] = (), truth: Truth | None = None,
) -> Record:  # fmt: skip
    """Ranks the operations of an undecided edge in several ways, the columns of the record:

    largest α:   by softmax(α).
    masks:       by accuracy, and by loss, of the supernet without the operation (Sec. 4.1), on the validation images
                 and on each of `fresh`.
    discretized: by strength (Sec. 3.1): accuracy or loss after the edge is discretized to it and the rest tuned.
    the truth:   as `average_truth` says.

    The paper tunes "until it converges again". Here all operations are tuned for the same number of epochs, one of
    `tunings`; `repeats` times, each with other batches. Tuning takes place on a copy of the supernet. A column has for
    each operation what was measured, and its place: the weakest has 0, and equals share one. facts: for the record.
    """

    def vary(valid: Any = judge.valid, **changes: Any) -> ptnas.Judge:
        return ptnas.Judge(judge.bilevel, replace(judge.settings, **changes), judge.train, valid)

    space = judge.supernet.space
    candidates = [ptnas.Candidate(cell_type, edge, operation) for operation in space.candidates(cell_type, edge)]
    names = [space.operations[cell_type][edge][candidate.operation] for candidate in candidates]
    scores = {ALPHA: ptnas.magnitude(judge, candidates)}
    for images in (None, *fresh):
        measured, where = vary(images or judge.valid).measure(candidates), f", {len(images)} images" if images else ""
        for metric in ("accuracy", "loss"):
            score = vary(metric=metric).score
            scores[f"masks, by {metric}{where}"] = [score(each, sign=-1) for each in measured]
    for epochs in tunings:
        for repeat in range(repeats if epochs else 1):
            trial = vary(tune_epochs=epochs).copy()
            trial.bilevel.epochs += 1000 * repeat  # the batches depend on it
            scores[name_strength(epochs, repeat)] = ptnas.discretization(trial, candidates)
    if truth:
        errors = [truth[edge, name] for name in names]
        scores[TRUTH] = [ptnas.Score((-error,), {"error": error}) for error in errors]
    columns = {}
    for column, each in scores.items():
        ranks = [score.rank for score in each]
        places = [sorted(ranks).index(rank) for rank in ranks]
        columns[column] = {"places": places, "measured": [score.measured for score in each]}
    return facts | {"cell": cell_type, "edge": list(space.edges[edge]), "operations": names, "columns": columns}


def name_strength(epochs: int, repeat: int = 0) -> str:
    return f"discretized, {epochs} epochs of tuning" + (f", again ({repeat})" if repeat else "")


def compare_strengths(args: Namespace, supernets: list[Trained], edges: list[list[Edge]], draw: Draw) -> None:
    """Measures the strengths on these edges of each supernet, draws and prints them. Raises UserError."""
    names = ("space", "preset", "dataset", "alpha", "noise", "sgas", "order", "layers", "channels")
    for name in names:
        if len({trained.settings[name] for trained in supernets}) > 1:
            raise runs.UserError(f"--ckpt: the supernets differ in {name}, and do not compare")
    if not any(edges):
        raise runs.UserError(f"{supernets[0].path}: the search decided all edges: there is nothing to compare")
    reads, space = supernets[0].reads, supernets[0].settings["space"]
    standard = ptnas.SelectionSettings.of(runs.get_preset("select", reads.preset, reads.dataset, space)[1])
    settings = replace(standard, seed=args.seed, **runs.override({}, args, "metric"))
    tunings = args.tune_epochs or [settings.tune_epochs]
    values = {"metric": settings.metric, "tune_epochs": tunings, "repeats": args.repeats, "passes": settings.passes}
    values |= {name: getattr(args, name) for name in ("images", "edges", "cell") if name in args}
    defaults = asdict(standard) | {"tune_epochs": [standard.tune_epochs], "repeats": 2, "images": [], "edges": 3}
    benchmark = runs.load_benchmark() if space == "nb201" else {}
    truth, strength, plan = average_truth(benchmark), name_strength(tunings[-1]), []
    for trained, own in zip(supernets, edges, strict=True):
        trained.bilevel.start_tuning()
        judge = ptnas.Judge(trained.bilevel, settings, trained.train, trained.valid)
        fresh = [draw_fresh(trained, count) for count in args.images]
        facts = {"supernet": trained.path.name, "epoch": trained.bilevel.epochs}
        how = {"tunings": tunings, "repeats": args.repeats, "fresh": fresh, "truth": truth, "facts": facts}
        plan += [partial(measure_strength, judge, *edge, **how) for edge in own]
    summarise = partial(summarise_agreement, strength=strength, benchmark=benchmark)

    def picture(figure: Figure, records: list[Record]) -> None:
        draw(figure, records, summarise(records), settings.metric, strength)

    print_agreement(summarise(measure_all(args, supernets, defaults, values, plan, "edge", picture, summarise)))


def summarise_agreement(records: Sequence[Record], strength: str, benchmark: runs.Benchmark) -> list[Record]:
    """Returns for the supernets after each number of epochs, and for each column, lists of one value per supernet:

    tau:    mean over its edges of the rank correlation with the truth, or with `strength` if nobody knows the truth.
            Without `none`: it is bad nearly everywhere, and masking it changes nothing, which ranks it last for free.
    all:    the same with `none`.
    strong: the same as tau, but with `strength`, also where the truth is known.
    first:  percentage of its edges on which the column puts the same operation first.
    again:  mean rank correlation of the column with itself when it is tuned with other batches.
    error:  true test error, in percent on CIFAR-10, of the cell that has its first operation on each of the six edges.

    A value is None where the column holds all operations equal, as a fixed α does.
    """
    rows = []
    for epoch, column in itertools.product(sorted({record["epoch"] for record in records}), records[0]["columns"]):
        lists = {name: [] for name in ("tau", "all", "strong", "first", "again", "error")}
        row: Record = {"epoch": epoch, "column": column, **lists}
        there = [record for record in records if record["epoch"] == epoch]
        for _, group in itertools.groupby(there, lambda record: record["supernet"]):
            edges = list(group)
            places = {name: [record["columns"][name]["places"] for record in edges] for name in edges[0]["columns"]}
            reference = places.get(TRUTH, places[strength])
            real = [[name != "none" for name in record["operations"]] for record in edges]
            own, best, strong = (
                [list(itertools.compress(*pair)) for pair in zip(each, real, strict=True)]
                for each in (places[column], reference, places[strength])
            )
            row["tau"].append(average_tau(own, best))
            row["strong"].append(average_tau(own, strong))
            row["all"].append(average_tau(places[column], reference))
            row["again"].append(average_tau(places[column], places.get(f"{column}, again (1)", ())))
            firsts = [each.index(max(each)) for each in places[column]]
            same = [each[first] == max(each) for first, each in zip(firsts, reference, strict=True)]
            differ = any(len(set(each)) > 1 for each in places[column])
            row["first"].append(100 * fmean(same) if differ else None)
            chosen = {tuple(r["edge"]): r["operations"][first] for r, first in zip(edges, firsts, strict=True)}
            if benchmark and differ and len(chosen) == 6:
                cell = Arch(tuple(chosen[edge] for edge in SPACES["nb201"].edges))
                row["error"].append(benchmark[str(cell)]["cifar10"])
        rows.append(row)
    return rows


def average_tau(first: Sequence[list[int]], second: Sequence[list[int]]) -> float | None:
    """Returns the mean rank correlation of two columns over the edges on which both tell operations apart."""
    taus = [tau for pair in zip(first, second, strict=False) if (tau := correlate_ranks(*pair)) is not None]
    return fmean(taus) if taus else None


def print_agreement(rows: Sequence[Record]) -> None:
    """Prints the summary as a table."""
    truth = any(row["column"] == TRUTH for row in rows)
    columns = {"tau": f"τ with {'the truth' if truth else 'strength'}, without `none`", "all": "with it"}
    columns |= {"strong": "τ with strength, without `none`"} if truth else {}
    columns |= {"first": "the same first (%)", "again": "τ with other batches", "error": "true error (%)"}
    header = ["epoch", "ranked by", *columns.values()]
    table = [[row["epoch"], row["column"], *(plots.format_mean(row[name]) for name in columns)] for row in rows]
    most = max(len(row["tau"]) for row in rows)
    runs.print_table(f"supernets: {most}; means over them with 95% intervals; τ: rank correlation", header, table)


def fig1(args: Namespace) -> None:
    """Draws Fig. 1 and 7: how α and masks order the operations of random edges, beside their strength.

    The strength of an operation is the accuracy after discretizing the edge to it and tuning the rest. On nb201 there
    is the truth beside it. Of supernets after different numbers of epochs it draws curves.
    """
    supernets, edges = load_supernets(args), []
    for trained in supernets:
        supernet, generator = trained.bilevel.supernet, random.Random(f"{args.seed} {trained.reads.seed}")
        left = [(cell_type, edge) for cell_type in supernet.space.cell_types for edge in supernet.undecided(cell_type)]
        edges.append(sorted(generator.sample(left, min(args.edges, len(left)))))
    curves = len({trained.bilevel.epochs for trained in supernets}) > 1
    compare_strengths(args, supernets, edges, plots.draw_agreement if curves else plots.draw_ranks)


def fig2(args: Namespace) -> None:
    """Draws Fig. 2: which operation α prefers and which is stronger, on every edge of a cell."""
    (trained,) = load_supernets(args)
    supernet = trained.bilevel.supernet
    cell_type = args.cell or supernet.space.cell_types[0]
    if cell_type not in supernet.space.cell_types:
        raise runs.UserError(f"--cell {cell_type}: {supernet.space.name} has {', '.join(supernet.space.cell_types)}")
    if supernet.decided(cell_type):
        raise runs.UserError(f"the search decided edges of the {plots.CELL_NAMES[cell_type]}")
    edges = [(cell_type, edge) for edge in supernet.undecided(cell_type)]
    compare_strengths(args, [trained], [edges], plots.draw_preferences)


# ==== Sec. 3.2, skip connections and unrolled estimation: Fig. 3, Table 1 ===========================================


def fig3(args: Namespace) -> None:
    """Draws Fig. 3: mean(α_skip - α_conv), softmaxed, against the validation accuracy, from the log of a search.

    The gap of an edge is the weight of skip_connect minus that of the convolution. The paper's S2 has one convolution
    per edge. Where an edge has several, their mean makes them one.
    """
    logs = args.logs or [Path("supernet.jsonl")]
    curves, names = {str(log): read_log(log) for log in logs}, name_searches(logs)
    rows = []
    for name, curve in curves.items():
        accuracies, gaps = ([record[key] for record in curve] for key in ("valid_accuracy", "skip_gap"))
        ends = f"{accuracies[0]:.2f}, {accuracies[-1]:.2f}", f"{gaps[0]:.4f}, {gaps[-1]:.4f}"
        rows.append([name, len(curve), *ends, plots.format_mean([correlate_ranks(accuracies, gaps)])])
    header = ["log", "epochs", "validation accuracy (%), first and last", "gap, first and last", "rank correlation (τ)"]
    runs.print_table("The gap against the validation accuracy", header, rows)
    save_figure(args.save, curves, lambda figure: plots.draw_gaps(figure, curves, names))


def name_searches(logs: Sequence[Path]) -> dict[str, str]:
    """Returns a name for each log: its space, and the settings in which the searches differ. Without their supernets,
    or if two have the same name, the names of the logs."""
    checkpoints, stems = [log.with_suffix(".pt") for log in logs], {str(log): log.stem for log in logs}
    if not all(checkpoint.exists() for checkpoint in checkpoints):
        return stems
    every = [runs.load_search(checkpoint)["settings"] for checkpoint in checkpoints]
    differ = [name for name in every[0] if name != "space" and len({str(each.get(name)) for each in every}) > 1]
    texts = ([f"{name} {Path(str(each.get(name))).name}" for name in differ] for each in every)  # no whole paths
    names = [", ".join([each["space"], *text]) for each, text in zip(every, texts, strict=True)]
    return dict(zip(stems, names, strict=True)) if len(set(names)) == len(logs) else stems


def read_log(path: Path) -> list[Record]:
    """Returns accuracy and gap of each epoch of a search, from its log. Raises UserError if it is no such log, or if
    the space has no edge with both a skip connection and a convolution."""
    if not path.exists():
        raise runs.UserError(f"there is no log {path}: python train_search.py --space s2 writes one")
    with runs.blame(path, "is not the log of a search, supernet.jsonl"):
        records = [json.loads(line) for line in runs.read_text(path).splitlines()]
        curve = [{name: record[name] for name in ("epoch", "valid_accuracy", "skip_gap")} for record in records]
        if not all(value is None or math.isfinite(value) for record in curve for value in record.values()):
            raise ValueError("a number is not finite")
    if not curve or any(value is None for record in curve for value in record.values()):
        raise runs.UserError(f"{path}: no epoch, or a space in which no edge has both skip_connect and a convolution")
    return curve


# The paper's test accuracy in percent on CIFAR-10: before shuffling, mean and standard deviation after it
TABLE_1 = {"VGG": (92.69, 9.83, 0.33), "ResNet": (93.86, 83.20, 2.03), "DARTS supernet": (88.44, 81.09, 1.87)}
BATCH = " (batch statistics)"  # a control: the norms of VGG and ResNet work as those of a supernet do
NETWORKS = ("VGG", f"VGG{BATCH}", "ResNet", f"ResNet{BATCH}", "DARTS supernet")


def swap_edges(cell: ptnas.SearchCell, one: int, other: int) -> None:
    """Lets two edges of a cell change places: each connects the nodes of the other from now on. So an edge takes its
    operations, its row of α and its presence along, and no other cell changes."""
    edges = list(cell.space.edges)
    edges[one], edges[other] = edges[other], edges[one]
    cell.space = replace(cell.space, edges=tuple(edges))


def list_edge_pairs(supernet: ptnas.Supernet, cell: ptnas.SearchCell) -> list[tuple[int, int]]:
    """Returns the pairs of edges of a cell that can change places: of the same stride, and not both pruned."""
    edges, presence = cell.edges, supernet.presence[cell.cell_type]
    return [
        (one, other)
        for one, other in itertools.combinations(range(len(edges)), 2)
        if edges[one].stride == edges[other].stride and (presence[one].operations or presence[other].operations)
    ]


@contextmanager
def shuffle_edges(supernet: ptnas.Supernet, generator: random.Random) -> Iterator[None]:
    """Swaps two random edges in every cell, inside a `with` block."""
    try:
        for cell in supernet.skeleton.cells:
            pairs = list_edge_pairs(supernet, cell)
            if pairs:
                swap_edges(cell, *generator.choice(pairs))
        yield
    finally:
        for cell in supernet.skeleton.cells:
            cell.space = supernet.space


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
                # not one 1x1 convolution of stride 2: on AVX2, PyTorch 2.14 writes past its memory below 8 channels
                convolve = Conv2dNormActivation(width // 2, width, 1, activation_layer=None)
                shortcut = nn.Sequential(nn.MaxPool2d(1, stride=2), convolve)
                first = BasicBlock(width // 2, width, stride=2, downsample=shortcut)
            else:
                first = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), Conv2dNormActivation(width // 2, width))
            stages.append([first, *(layer(width, width) for _ in range(layers - 1))])
        self.stages = nn.ModuleList(nn.Sequential(*stage) for stage in stages)
        self.classifier = nn.Linear(4 * channels, classes)

    def forward(self, x: Tensor, number: int = 0, drop_path: float = 0.0) -> Tensor | tuple[Tensor, None]:
        """Takes and returns what `ptnas.Network` does, without auxiliary logits. x: (N, image channels, H, W)."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        logits = self.classifier(x.mean(dim=(2, 3)))
        return (logits, None) if self.training else logits


@contextmanager
def shuffle_layers(network: Staged, generator: random.Random) -> Iterator[None]:
    """Swaps two random layers of the same shape in every stage, inside a `with` block."""
    before = network.stages
    stages = [list(stage) for stage in before]
    for number, layers in enumerate(stages):
        places = range(number > 0, len(layers))  # the first layer of the second and third stage halves the map
        one, other = generator.choice(list(itertools.combinations(places, 2)))
        layers[one], layers[other] = layers[other], layers[one]
    network.stages = nn.ModuleList(nn.Sequential(*layers) for layers in stages)
    try:
        yield
    finally:
        network.stages = before


def table1(args: Namespace) -> None:
    """Measures Table 1: the test accuracy of VGG, ResNet and a supernet before and after shuffling.

    A shuffle swaps two random layers in every stage, or two random edges in every cell. Before they are measured, VGG
    and ResNet are trained on the same data set, as runs of their own. They are measured with the running statistics of
    their norms, as usual, and with those of the batch, as a supernet always is.
    """
    (trained,) = load_supernets(args)
    supernet = trained.bilevel.supernet
    if not args.resume:  # all three runs now: a later --resume must not go on from networks of an earlier table
        saves = [args.save.with_suffix(end) for end in (".json", ".vgg.pt", ".resnet.pt")]
        runs.move_aside(*itertools.chain.from_iterable(map(runs.name_files, saves)))
    preset = runs.get_preset("table1", trained.reads.preset, trained.reads.dataset)[1]
    standard = ptnas.RetrainSettings.of(preset)
    training = replace(standard, **runs.override({}, args, "epochs", "layers", "channels"))
    # The images of a folder are in the order of their classes, and a batch of one class has its own statistics.
    order = torch.randperm(len(trained.data.test), generator=torch.Generator().manual_seed(args.seed))
    test, batch_size = trained.data.test.subset(order, args.seed), trained.bilevel.settings.eval_batch_size

    @cache
    def get_network(kind: str) -> nn.Module:
        if kind.endswith(BATCH):
            return replace_all_batch_norm_modules_(copy.deepcopy(get_network(kind.removesuffix(BATCH))))
        return supernet if kind == "DARTS supernet" else train_network(kind, training, trained, args)

    def measure(kind: str, number: int) -> Record:
        """Measures a network after a shuffle, or before any of them if `number` is 0."""
        network, generator = get_network(kind), random.Random(f"{args.seed} {kind.removesuffix(BATCH)} {number}")
        shuffle = shuffle_layers if isinstance(network, Staged) else shuffle_edges
        with shuffle(network, generator) if number else nullcontext():
            (measurement,) = ptnas.evaluate(network, test, batch_size)
        return {"network": kind, "shuffle": number, "test_accuracy": measurement.accuracy}

    def picture(figure: Figure, records: list[Record]) -> None:
        plots.draw_shuffles(figure, summarise_shuffles(records), chance=100 / len(trained.data.classes))

    plan = [partial(measure, kind, number) for kind in NETWORKS for number in range(args.shuffles + 1)]
    values = {"networks": NETWORKS, "shuffles": args.shuffles, **asdict(training)}
    defaults = asdict(standard) | {"networks": NETWORKS, "shuffles": 10}
    records = measure_all(args, [trained], defaults, values, plan, "shuffle", picture, summarise_shuffles)
    print_shuffles(records, Path(trained.reads.dataset).name)


def train_network(kind: str, settings: ptnas.RetrainSettings, trained: Trained, args: Namespace) -> Staged:
    """Returns VGG or ResNet, trained on all the training images of the supernet's data set, as a run of its own."""
    data, device = trained.data, trained.bilevel.w[0].device
    reads = {name: getattr(trained.reads, name) for name in ("dataset", "data", "limit", "image_size", "no_flip")}
    values = reads | {"network": kind, "seed": args.seed, **asdict(settings)}
    torch.manual_seed(runs.mix(args.seed))
    network = Staged(kind, settings.layers, settings.channels, len(data.classes), data.channels).to(device)
    save, training = args.save.with_suffix(f".{kind.lower()}.pt"), ptnas.Training(network, settings)

    def picture(figure: Figure) -> None:
        plots.draw_retraining(figure, run.records, kind)

    with runs.Run(save, "network", values, args.resume) as run:
        run.begin(data.describe() | {"computing": runs.describe_machine(device)}, training)
        steps = ptnas.retrain(training, data.train, data.test, len(run.records))
        for record in run.follow(steps, settings.epochs, "epoch"):
            run.keep()
            run.draw(picture)
        if not run.finished:
            run.finish(picture)
    return network.eval()


def summarise_shuffles(records: Sequence[Record]) -> dict[str, Record]:
    """Returns by network the test accuracy before shuffling, those after each shuffle, their mean and deviation."""
    summary: dict[str, Record] = {}
    for kind in dict.fromkeys(record["network"] for record in records):
        before, *after = (record["test_accuracy"] for record in records if record["network"] == kind)
        average, deviation = mean(after) if after else None, stdev(after) if len(after) > 1 else None
        summary[kind] = {"before": before, "after": after, "mean": average, "sd": deviation}
    return summary


def print_shuffles(records: Sequence[Record], dataset: str) -> None:
    """Prints the summary beside the paper's numbers."""
    rows, summary = [], summarise_shuffles(records)
    for kind, here in summary.items():
        paper = "{:.2f}, {:.2f} ± {:.2f}".format(*TABLE_1[kind]).split(", ") if kind in TABLE_1 else ["-", "-"]
        deviation = f" ± {here['sd']:.2f}" if here["sd"] is not None else ""
        rows.append([kind, *paper, f"{here['before']:.2f}", f"{here['mean']:.2f}{deviation}"])
    title = f"Table 1: test accuracy (%) on {dataset}, {len(summary['VGG']['after'])} shuffles, mean ± sd"
    runs.print_table(title, ["", "paper (CIFAR-10): before", "after", "here: before", "after"], rows)


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
    save_figure(args.save, numbers, lambda figure: plots.draw_cells(figure, architectures))


# ==== Command line ==================================================================================================

COMMANDS = {"fig1": fig1, "fig2": fig2, "fig3": fig3, "table1": table1, "cells": cells}


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
        add("--layers", type=runs.whole(3), metavar="N", help="layers in each of the three stages of VGG and ResNet")
        helps = {"epochs": "epochs of their training", "channels": "channels of their first stage"}
        runs.add_settings(parser, ptnas.RetrainSettings, **helps)
    if name == "cells":
        text = "published name, genotype.json, Genotype(...) or |op~0|+...; two cells of the paper by default"
        add("archs", nargs="*", default=["DARTS_PT_S2_1", "DARTS_PT_S4_1"], metavar="ARCH", help=text)
    if name in ("fig1", "fig2"):
        runs.add_settings(parser, ptnas.SelectionSettings, metric="measure of strength")
        add("--tune-epochs", nargs="+", type=runs.whole(0), metavar="N", help="epochs of tuning, each by itself")
        text = "tune each operation N times, with other batches; 2 by default"
        add("--repeats", type=runs.whole(1), default=2, metavar="N", help=text)
        text = "measure masks on N images that the search left out, too"
        add("--images", nargs="+", type=runs.whole(2), default=[], metavar="N", help=text)
    if name in ("fig1", "fig2", "table1"):
        add("--ckpt", nargs="+" if name == "fig1" else 1, type=Path, metavar="FILE", help="supernet.pt by default")
        add("--dataset", metavar="NAME|FOLDER", type=runs.parse_dataset, help="data set, by default that of the search")
        add("--data", metavar="DIR", type=runs.parse_folder, help="folder of the named data sets")
        add("--seed", type=runs.whole(0), default=0, metavar="N", help="seed of all random choices, 0 by default")
        add("--resume", action="store_true", help="continue the run that wrote the result")
        runs.add_machine_options(parser)
    add("--save", type=runs.parse_file, default=f"{name}.png", metavar="FILE", help="a picture, with a .json beside it")


def command(argv: Sequence[str] | None) -> None:
    """Reads the command line and runs the command. Raises UserError."""
    parser = runs.Parser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=runs.Parser)
    for name, function in COMMANDS.items():
        texts = {"help": function.__doc__.split("\n")[0], "description": function.__doc__}
        subparser = commands.add_parser(name, aliases=["fig7"] if name == "fig1" else [], **texts)
        subparser.set_defaults(command=name)  # by either name
        add_options(subparser, name)
    args = parser.parse_args(argv)
    checkpoint = args.save.with_suffix(".pt")
    if args.save.suffix != ".png":
        raise runs.UserError(f"--save {args.save}: a file name that ends in .png is needed")
    if checkpoint.exists() and runs.load_checkpoint(checkpoint, "analysis")["settings"].get("command") != args.command:
        raise runs.UserError(f"--save {args.save}: {checkpoint} belongs to a result of another command")
    COMMANDS[args.command](args)


def main(argv: Sequence[str] | None = None) -> int:
    return runs.run_command("analyze.py", command, argv)


if __name__ == "__main__":
    sys.exit(main())
