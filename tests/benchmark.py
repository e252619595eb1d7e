"""Measures the speed of the supernet beside the plain reference supernet. This is no test: run it by hand.

    python tests/benchmark.py step mask --space s2 --repeats 3
    python tests/benchmark.py grow --save docs/scaling.png

Both take turns on the same data in one process. The table has medians over the repeats, and the ratio. The reference
does what the released implementations do: it stores tensors as NCHW, computes every operation of every edge by itself
unless its weight is zero, takes the gradients of w and α in both steps, passes over the validation images in batches
of 64 for each masked operation, and evaluates both halves after each epoch of tuning.

step: one bilevel step. memory: its peak above what was there before: of the process, in which the C library leaves
gaps, and of the tensors. mask: the masked accuracies of all operations of an edge of each cell type. select: a whole
selection from a small supernet. retrain: one step of a discrete network. data: reading and augmenting images. parts:
where the time of a step goes, and what the rates of this machine would allow. grow: how a step on S2 grows with the
batch, C, the cells, and the processes, which share the batch and have one thread each.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import multiprocessing
import os
import re
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import linear_regression, mean, median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

import ptnas
import runs
from data import Images, load_data
from genotypes import PUBLISHED, SPACES, Arch
from ptnas import (
    Bilevel,
    Candidate,
    Data,
    Judge,
    RetrainSettings,
    SearchSettings,
    SelectionSettings,
    Supernet,
    Training,
)
from tests.conftest import Batches
from tests.reference import Reference, ReferenceCell, measure
from tests.test_steps import play, take_steps

ReferenceCell.skips_zero = True
CLASSES = 10


def draw_images(count: int) -> Batches:
    generator = torch.Generator().manual_seed(0)
    return Batches(torch.randn(count, 3, 32, 32, generator=generator), torch.arange(count) % CLASSES)


def build_pair(space: str, settings: SearchSettings, low_memory: bool = False) -> tuple[Supernet, Reference]:
    """Builds the real supernet, and the reference with the same weights."""
    torch.manual_seed(0)
    supernet = settings.build_supernet(SPACES[space], CLASSES, 3, low_memory)
    return supernet, Reference.like(supernet, settings.layers, settings.channels, CLASSES, 3)


class PlainBilevel:
    """Takes both steps as they are usually written: `backward` for everything, then an optimiser for its part."""

    def __init__(self, reference: Reference, presence: dict, settings: SearchSettings, lr: float):
        self.reference, self.presence, self.settings = reference, presence, settings
        named = list(reference.named_parameters())
        self.alpha = [parameter for name, parameter in named if name.startswith("alpha")]
        self.w = [parameter for name, parameter in named if not name.startswith("alpha")]
        self.w_optimizer = torch.optim.SGD(self.w, lr, settings.momentum, weight_decay=settings.weight_decay)
        self.alpha_optimizer = torch.optim.Adam(
            self.alpha, settings.alpha_lr, betas=(0.5, 0.999), weight_decay=settings.alpha_weight_decay
        )

    def step(self, train: tuple, valid: tuple) -> None:
        self.descend(valid, self.alpha_optimizer)
        self.descend(train, self.w_optimizer)

    def descend(self, batch: tuple, optimizer: torch.optim.Optimizer) -> None:
        self.reference.zero_grad()
        F.cross_entropy(self.reference(batch[0], self.presence), batch[1]).backward()
        if optimizer is self.w_optimizer:
            nn.utils.clip_grad_norm_(self.w, self.settings.clip)
        optimizer.step()


def mask_plainly(reference: Reference, supernet: Supernet, candidates: list[Candidate], data: Data) -> list[float]:
    """Returns the accuracy of the reference without each of the candidates."""
    accuracies = []
    for candidate in candidates:
        with supernet.mask(*candidate):
            accuracies.append(measure(reference, supernet.presence, data)[0])
    return accuracies


def list_operations(supernet: Supernet, cell_type: str, edge: int) -> list[Candidate]:
    return [Candidate(cell_type, edge, operation) for operation in supernet.space.candidates(cell_type, edge)]


def choose_settings(space: str) -> SearchSettings:
    """Returns settings with C=16, batches of 64, and 8 cells, on NAS-Bench-201 one in each stage."""
    return SearchSettings(layers=1 if space == "nb201" else 8)


Turns = dict[str, Callable[[], Any]]  # ours, by the name of their row, and the reference


def step(space: str) -> Turns:
    settings = choose_settings(space)
    (_, train), (_, valid) = draw_images(128).clean(64)

    def take_both_steps(bilevel: Bilevel) -> None:
        bilevel.step_alpha(train, valid)
        bilevel.step_w(train)

    supernet, reference = build_pair(space, settings)
    plain = PlainBilevel(reference, supernet.presence, settings, settings.lr)
    frugal, _ = build_pair(space, settings, low_memory=True)
    return {
        "step": partial(take_both_steps, Bilevel(supernet, settings)),
        "step, low memory": partial(take_both_steps, Bilevel(frugal, settings)),
        "reference": partial(plain.step, train, valid),
    }


def mask(space: str) -> Turns:
    settings, data = choose_settings(space), draw_images(256)
    supernet, reference = build_pair(space, settings)
    judge = Judge(Bilevel(supernet, settings), SelectionSettings(), data, data)
    edge = len(supernet.space.edges) // 2
    masks = [list_operations(supernet, cell_type, edge) for cell_type in supernet.space.cell_types]
    return {
        "mask": lambda: [ptnas.perturbation(judge, each) for each in masks],
        "reference": lambda: [mask_plainly(reference, supernet, each, data) for each in masks],
    }


def select(space: str, size: int, limit: int | None, seeds: int = 3) -> None:
    """Measures whole selections by perturbation, with five epochs of tuning, by the reference and by ours. Both start
    from the same supernets of 3 cells, one for each seed. size: side of the digits in pixels; limit: their number."""
    data = load_data({"dataset": "digits", "seed": 0, "image_size": size, "limit": limit}, torch.device("cpu"))
    settings = SearchSettings(layers=1 if space == "nb201" else 3, epochs=40, alpha_lr=3e-3)
    seconds, accuracies = ({kind: [] for kind in ("reference", "ours")} for _ in range(2))
    for seed in range(seeds):
        train, valid = data.halve(seed)
        torch.manual_seed(seed)
        searched = Bilevel(settings.build_supernet(SPACES[space], CLASSES, data.channels), settings)
        take_steps(ptnas.search(searched, train, valid))
        for kind in seconds:
            bilevel = copy.deepcopy(searched)
            supernet = bilevel.supernet
            started = time.perf_counter()
            if kind == "reference":
                reference = Reference.like(supernet, settings.layers, settings.channels, CLASSES, data.channels)
                select_plainly(supernet, reference, settings, train, valid)
                accuracy, *_ = measure(reference, supernet.presence, valid, 512)
            else:
                bilevel.start_tuning()
                accuracy = play(Judge(bilevel, SelectionSettings(seed=seed), train, valid))[-1]["valid_accuracy"]
            seconds[kind].append(time.perf_counter() - started)
            accuracies[kind].append(accuracy)
    compare("select", space, *(median(seconds[kind]) for kind in ("ours", "reference")))
    compare("accuracy after select", space, *(mean(accuracies[kind]) for kind in ("ours", "reference")), "%")


def select_plainly(
    supernet: Supernet, reference: Reference, settings: SearchSettings, train: Data, valid: Data
) -> None:
    """Algorithms 1 and 2 with a pass over the validation images for every mask, and both halves evaluated after every
    epoch of tuning."""
    bilevel = PlainBilevel(reference, supernet.presence, settings, settings.lr / 10)
    for decide, choices in ptnas.plan_rounds(supernet, seed=0):
        for cell_type, index in choices:
            if decide is ptnas.decide_edge:
                candidates = list_operations(supernet, cell_type, index)
            else:
                candidates = [Candidate(cell_type, edge, None) for edge in supernet.inputs(cell_type, index)]
            ranked = sorted(zip(mask_plainly(reference, supernet, candidates, valid), candidates, strict=True))
            if decide is ptnas.decide_edge:
                supernet.decide(*ranked[0][1])
            else:
                for _, (_, edge, _) in ranked[2:]:
                    supernet.prune(cell_type, edge)
        for epoch in range(SelectionSettings().tune_epochs):
            for batches in zip(train.batches(64, epoch), valid.batches(64, epoch), strict=False):
                bilevel.step(*batches)
            for data in (train, valid):
                measure(reference, supernet.presence, data)


def retrain(space: str) -> Turns:
    if space == "nb201":
        architecture, layers = Arch(("nor_conv_3x3",) * 6), 1
    else:
        architecture, layers = PUBLISHED["DARTS_PT_S2_1" if space == "s2" else "DARTS_V2"], 8
    supernet, reference = build_pair(space, SearchSettings(layers=layers))
    for cell_type, cell in architecture.cells.items():
        names = {(source, node): name for name, source, node in cell.operations}
        for edge, ends in enumerate(supernet.space.edges):
            if ends in names:
                supernet.decide(cell_type, edge, supernet.space.operations[cell_type][edge].index(names[ends]))
            else:
                supernet.prune(cell_type, edge)
    plain, batch = PlainBilevel(reference, supernet.presence, SearchSettings(), 0.025), draw_images(64)
    settings = RetrainSettings(layers=layers, channels=16, auxiliary=0.0, drop_path=0.0)
    training = Training(ptnas.Network(architecture, layers, 16, CLASSES), settings)
    return {
        "retrain": lambda: training.train_epoch(batch, 0, 0.0),
        "reference": lambda: plain.descend((batch.images, batch.labels), plain.w_optimizer),
    }


def data(space: str) -> Turns:
    """Crops, flips and normalises 1,024 images of 32x32 pixels in batches of 64."""
    pixels = torch.randint(0, 256, (1024, 3, 32, 32), dtype=torch.uint8)
    mean, deviation = torch.full((3, 1, 1), 120.0), torch.full((3, 1, 1), 60.0)
    split = Images(pixels, torch.zeros(1024, dtype=torch.long), torch.arange(1024), mean, deviation, 4, flip=True)
    pictures = [v2.functional.to_pil_image(each) for each in pixels]
    pipeline = v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([120 / 255] * 3, [60 / 255] * 3),
        ]
    )

    def theirs() -> None:
        for start in range(0, 1024, 64):
            torch.stack([pipeline(picture) for picture in pictures[start : start + 64]])

    return {"data": lambda: list(split.batches(64, 0)), "reference": theirs}


TIMED = {"step": step, "mask": mask, "retrain": retrain, "data": data}


def time_turns(name: str, space: str, repeats: int) -> None:
    """Measures median seconds, in turns, after a turn that does not count."""
    turns = TIMED[name](space)
    seconds: dict[str, list[float]] = {each: [] for each in turns}
    for repeat in range(repeats + 1):
        for each, function in turns.items():
            took = take_time(function)
            if repeat:
                seconds[each].append(took)
    theirs = median(seconds.pop("reference"))
    for each, own in seconds.items():
        compare(each, space, median(own), theirs)


def measure_peak(space: str, which: str, threads: int) -> float:
    """Returns the MiB of a first step above what was there before it. Run it in a process that did nothing else."""
    torch.set_num_threads(threads)
    runs.keep_memory()
    function = step(space)[which]
    before = read_peak()
    function()
    return read_peak() - before


def read_peak() -> float:
    """Returns the MiB that this process has held at once (Linux). `resource` counts the process that started it too."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024


def measure_tensors(space: str, which: str, threads: int) -> float:
    """Returns the MiB of all tensors that a first step holds at once, above what was there before it."""
    torch.set_num_threads(threads)
    function = step(space)[which]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = (event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]")
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(changes)) / 2**20


def memory(space: str, threads: int) -> None:
    for measured, function in (("process", measure_peak), ("tensors", measure_tensors)):
        found = {}
        for which in ("reference", "step", "step, low memory"):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
                found[which] = executor.submit(function, space, which, threads).result()
        theirs = found.pop("reference")
        for which, ours in found.items():
            compare(f"memory of a {which}: {measured}", space, ours, theirs, "MiB")


class TrafficCounter(TorchDispatchMode):
    """Counts the operations, and the bytes of the tensors that they read and write. A view is no operation."""

    operations = traffic = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.operations += 1
            tensors = (each for each in tree_leaves((args, kwargs, result)) if isinstance(each, torch.Tensor))
            self.traffic += sum(tensor.nbytes for tensor in tensors)
        return result


def parts(space: str) -> None:
    """Prints where the time of a step goes, for DARTS also of the paper's retraining, and what would bound it."""
    rates = measure_rates()
    steps = {f"step, {space}": step(space)["step"]}
    if space == "darts":
        batch, settings = draw_images(96), RetrainSettings()
        network = ptnas.Network(PUBLISHED["DARTS_V2"], settings.layers, settings.channels, CLASSES)
        steps["retrain, DARTS_V2"] = partial(Training(network, settings).train_epoch, batch, 0, 0.0)
    for name, function in steps.items():
        divide(name, function, *rates)


def divide(name: str, function: Callable[[], Any], products: float, copies: float) -> None:
    """Prints the parts of a step, given the gigaflop and gigabytes per second that the machine allows."""
    function()
    seconds = [take_time(function) for _ in range(3)]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        function()
    with FlopCounterMode(display=False) as flops, TrafficCounter() as counter:
        function()
    kinds = dict.fromkeys(("conv", "batch_norm", ""), 0.0)
    for event in profiler.key_averages():
        kinds[next(kind for kind in kinds if kind in event.key)] += event.self_cpu_time_total
    shares = [100 * each / sum(kinds.values()) for each in kinds.values()]
    gigaflop, gigabytes = flops.get_total_flops() / 1e9, counter.traffic / 1e9
    bounds = gigaflop / products, gigabytes / copies
    print(
        f"| {name} | {median(seconds):.2f} s | {shares[0]:.0f}% | {shares[1]:.0f}% | {shares[2]:.0f}% "
        f"| {gigaflop:.1f} | {bounds[0]:.2f} s | {gigabytes:.1f} | {bounds[1]:.2f} s | {counter.operations} |"
    )


def take_time(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def measure_rates() -> tuple[float, float]:
    """Prints and returns the best of five rates: gigaflop per second of a matrix product, gigabytes of a copy."""
    a, b = torch.randn(2, 2048, 2048)
    source, target = torch.randn(2, 2**26)
    products = 2e-9 * 2048**3 / min(take_time(lambda: a @ b) for _ in range(5))
    copies = 2e-9 * source.nbytes / min(take_time(lambda: target.copy_(source)) for _ in range(5))
    print(f"\nmatrix product {products:.0f} GFLOP/s, copy {copies:.1f} GB/s read and written\n")
    print("| | time | convolutions | norms | rest | GFLOP | at that rate | GB | at that rate | operations |")
    print(f"|{10 * '---|'}")
    return products, copies


def compare(what: str, space: str, ours: float, theirs: float, unit: str = "s") -> None:
    """Prints a row of the table."""
    ratio = theirs / ours if unit == "s" else ours / theirs
    print(f"| {what} | {space} | {ours:.4g} {unit} | {theirs:.4g} {unit} | {ratio:.2f} |", flush=True)


# ---- how a step grows

START = {"batch": 64, "channels": 16, "cells": 8, "processes": 1}  # one of these changes at a time
VALUES = {
    "batch": (16, 32, 64, 128, 256), "channels": (8, 16, 24, 32), "cells": (5, 8, 11, 14, 20), "processes": (1, 2),
}  # fmt: skip


def measure_steps(case: dict[str, int], steps: int, rank: int, port: int, results: multiprocessing.Queue) -> None:
    """Measures some steps of one process after a first one, and puts (seconds, MiB) into the results."""
    here = {"RANK": rank, "WORLD_SIZE": case["processes"], "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in here.items()})
    torch.set_num_threads(1)
    runs.keep_memory()
    with runs.act_together():
        runs.join_processes(torch.device("cpu"))
        torch.manual_seed(0)
        settings = SearchSettings(layers=case["cells"], channels=case["channels"])
        bilevel = Bilevel(settings.build_supernet(SPACES["s2"], CLASSES, 3), settings)
        size = case["batch"] // case["processes"]
        (_, train), (_, valid) = draw_images(2 * size).clean(size)

        def step() -> None:
            bilevel.step_alpha(train, valid)
            bilevel.step_w(train)

        before = read_peak()
        step()
        memory = read_peak() - before
        results.put((median(take_time(step) for _ in range(steps)), memory))


def measure_case(case: dict[str, int], steps: int) -> tuple[float, float]:
    """Returns the seconds of a step and the MiB of all processes."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = range(case["processes"])
    processes = [context.Process(target=measure_steps, args=(case, steps, rank, port, results)) for rank in ranks]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return max(seconds for seconds, _ in found), sum(memory for _, memory in found)


def grow(steps: int, save: Path) -> None:
    """Prints and draws seconds and MiB of a step. A slope of s means: doubling the one multiplies the other by 2^s."""
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(2, len(VALUES), figsize=(12, 5), sharex="col", sharey="row", layout="constrained")
    for column, (what, values) in zip(panels.T, VALUES.items(), strict=True):
        measured = [measure_case(START | {what: value}, steps) for value in values]
        for axes, numbers, unit in zip(column, zip(*measured, strict=True), ("seconds", "MiB"), strict=True):
            slope = linear_regression(*(torch.tensor(each).log().tolist() for each in (values, numbers))).slope
            print(f"{what} {values}: {', '.join(f'{number:.4g}' for number in numbers)} {unit}, slope {slope:.2f}")
            axes.loglog(values, numbers, "o-", base=2, label=f"slope {slope:.2f}")
            axes.set_xticks(values)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.legend()
            axes.set_ylabel(unit if what == "batch" else "")
        column[1].set_xlabel(what)
    figure.savefig(save, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    every = (*TIMED, "select", "memory", "parts", "grow")
    parser.add_argument("what", nargs="+", metavar="WHAT", choices=every, help=", ".join(every))
    parser.add_argument("--space", nargs="+", choices=("s2", "darts", "nb201"), default=["s2", "darts", "nb201"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, default=32, help="of select: side of the digits in pixels")
    parser.add_argument("--limit", type=int, help="of select: number of digits")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save", type=Path, default=Path("scaling.png"), metavar="PNG", help="of grow")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    runs.keep_memory()
    print(f"{args.threads} threads, medians of {args.repeats}; of select, medians and means of 3 seeds\n")
    print("| | space | ours | reference | ratio |\n|---|---|---|---|---|")
    for name in args.what:
        if name == "grow":
            grow(args.repeats, args.save)
            continue
        for space in args.space if name != "data" else ["-"]:
            if name in TIMED:
                time_turns(name, space, args.repeats)
            elif name == "select":
                select(space, args.size, args.limit)
            else:
                memory(space, args.threads) if name == "memory" else parts(space)


if __name__ == "__main__":
    main()
