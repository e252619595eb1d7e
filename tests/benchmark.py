"""How fast the supernet is beside the plain reference supernet, by hand: this is no test.

    python tests/benchmark.py --threads 2                         # everything; takes long
    python tests/benchmark.py step mask --space s2 --repeats 3

In one process both take turns on the same data; the table has medians over the repeats and the ratio. The reference
does what the released implementations do: contiguous tensors (NCHW), every operation of every edge by itself but for
those of weight zero, gradients of w and α in both steps, a pass over the validation images in batches of 64 for every
masked operation, and after every epoch of tuning, which trains α, both halves evaluated.

step: one bilevel step. memory: its peak above what was there before, each in a process of its own. dispatch: operations
dispatched in a forward pass. mask: the masked accuracies of all operations of an edge of each cell type. select: a
whole selection from a small supernet. retrain: one step of a discrete network. data: images read and augmented.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import random
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import v2

import runs
from data import Images, load_data
from genotypes import PUBLISHED, SPACES, Arch
from ptnas import (
    Bilevel,
    Candidate,
    Computing,
    Data,
    Network,
    Retraining,
    RetrainSettings,
    Search,
    SearchSettings,
    Selection,
    SelectionSettings,
    Supernet,
    perturbation,
)
from tests.conftest import Batches
from tests.reference import Reference, ReferenceCell

ReferenceCell.skips_zero = True
CLASSES = 10


def images(count: int, size: int = 32, seed: int = 0) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    return Batches(torch.randn(count, 3, size, size, generator=generator), torch.arange(count) % CLASSES)


def pair(space: str, settings: SearchSettings) -> tuple[Supernet, Reference]:
    """The real supernet and the reference with the same weights."""
    torch.manual_seed(0)
    supernet = settings.supernet(SPACES[space], CLASSES, 3)
    return supernet, Reference.like(supernet, settings.layers, settings.channels, CLASSES, 3)


class PlainBilevel:
    """The two steps as they are usually written: `backward` for everything, then an optimiser for its part."""

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
        for batch, optimizer in ((valid, self.alpha_optimizer), (train, self.w_optimizer)):
            self.reference.zero_grad()
            F.cross_entropy(self.reference(batch[0], self.presence), batch[1]).backward()
            if optimizer is self.w_optimizer:
                nn.utils.clip_grad_norm_(self.w, self.settings.clip)
            optimizer.step()


@torch.no_grad()
def plain_accuracy(reference: Reference, presence: dict, data: Data, batch_size: int = 64) -> float:
    correct = 0
    for batch, labels in data.clean(batch_size):
        correct += (reference(batch, presence).argmax(1) == labels).sum().item()
    return 100 * correct / len(data)


def plain_masked(reference: Reference, supernet: Supernet, cell_type: str, edge: int, data: Data) -> list[float]:
    found = []
    for operation in supernet.space.candidates(cell_type, edge):
        with supernet.mask(cell_type, edge, operation):
            found.append(plain_accuracy(reference, supernet.presence, data))
    return found


def settings_of(space: str) -> SearchSettings:
    """C=16, batches of 64; 8 cells, on NAS-Bench-201 one in each stage."""
    return SearchSettings(layers=1 if space == "nb201" else 8)


Turns = dict[str, Callable[[], Any]]  # ours, by the name of their row, and the reference


def step(space: str) -> Turns:
    settings, data = settings_of(space), images(128)
    train, valid = data.clean(64)

    def ours(computing: Computing) -> Callable[[], None]:
        supernet, _ = pair(space, settings)
        supernet.skeleton.computing = computing
        bilevel = Bilevel(supernet, settings, settings.lr)

        def both_steps() -> None:
            bilevel.alpha_step(train, valid)
            bilevel.w_step(train)

        return both_steps

    supernet, reference = pair(space, settings)
    plain = PlainBilevel(reference, supernet.presence, settings, settings.lr)
    return {
        "step": ours(Computing()),
        "step, low memory": ours(Computing(low_memory=True)),
        "reference": lambda: plain.step(train, valid),
    }


def mask(space: str) -> Turns:
    settings, data = settings_of(space), images(256)
    supernet, reference = pair(space, settings)
    judge = Selection(supernet, settings, SelectionSettings(), data, data)
    edge, cell_types = len(supernet.space.edges) // 2, supernet.space.cell_types

    def ours() -> None:
        for kind in cell_types:
            perturbation(judge, [Candidate(kind, edge, each) for each in supernet.space.candidates(kind, edge)])

    def theirs() -> None:
        for kind in cell_types:
            plain_masked(reference, supernet, kind, edge, data)

    return {"mask": ours, "reference": theirs}


# The options of `select`: how many supernets, the side of the digits in pixels, C, and how many of the digits
OF_SELECT = {"seeds": 3, "size": 32, "channels": 16, "limit": None}


def selections(space: str, seeds: int, size: int, channels: int, limit: int | None) -> list[dict]:
    """A whole selection on the digits, scaled to this size, by perturbation, with five epochs of tuning: by the
    reference, by ours, and by ours with `tune` as "converge", each from the same supernets of 3 cells, one for every
    seed."""
    data = load_data({"dataset": "digits", "seed": 0, "image_size": size, "limit": limit}, torch.device("cpu"))
    settings = SearchSettings(layers=1 if space == "nb201" else 3, channels=channels, epochs=40, alpha_lr=3e-3)
    seconds, accuracies = ({kind: [] for kind in ("reference", "fixed", "converge")} for _ in range(2))
    for seed in range(seeds):
        train, valid = data.halve(seed)
        torch.manual_seed(seed)
        search = Search(settings.supernet(SPACES[space], CLASSES, data.channels), settings, train, valid)
        while search.done < search.total:
            search.step()
        for kind in seconds:
            supernet = copy.deepcopy(search.supernet)
            started = time.perf_counter()
            if kind == "reference":
                reference = Reference.like(supernet, settings.layers, settings.channels, CLASSES, data.channels)
                plain_selection(supernet, reference, settings, train, valid)
                accuracy = plain_accuracy(reference, supernet.presence, valid, 512)
            else:
                selection = Selection(supernet, settings, SelectionSettings(tune=kind, seed=seed), train, valid)
                while selection.done < selection.total:
                    accuracy = selection.step()["valid_accuracy"]
            seconds[kind].append(time.perf_counter() - started)
            accuracies[kind].append(accuracy)
    rows = []
    for kind in ("fixed", "converge"):
        of = kind, "reference"
        rows.append(compared(f"select, {kind}", space, *(median(seconds[each]) for each in of)))
        rows.append(compared(f"accuracy after select, {kind}", space, *(mean(accuracies[each]) for each in of), "%"))
    return rows


def plain_selection(
    supernet: Supernet, reference: Reference, settings: SearchSettings, train: Data, valid: Data
) -> None:
    """Algorithms 1 and 2 with a pass over the validation images for every mask, and both halves evaluated after every
    epoch of tuning."""
    bilevel = PlainBilevel(reference, supernet.presence, settings, settings.lr / 10)
    for kind, index in plain_rounds(supernet):
        plain_decide(supernet, reference, kind, index, valid)
        if kind == supernet.space.cell_types[-1]:
            for epoch in range(SelectionSettings().tune_epochs):
                for batch, other in zip(train.batches(64, epoch), valid.batches(64, epoch), strict=False):
                    bilevel.step(batch, other)
                for data in (train, valid):
                    plain_accuracy(reference, supernet.presence, data)


def plain_rounds(supernet: Supernet):
    """(cell type, edge) in random order, then (cell type, node) as a negative number."""
    space, shuffle = supernet.space, random.Random(0).shuffle
    for indices in (list(range(len(space.edges))), [-node for node in space.nodes if len(space.into(node)) > 2]):
        shuffle(indices)
        for index in indices if space.topology or indices[0] >= 0 else ():
            for cell_type in space.cell_types:
                yield cell_type, index


def plain_decide(supernet: Supernet, reference: Reference, cell_type: str, index: int, valid: Data) -> None:
    space = supernet.space
    if index >= 0:
        accuracies = plain_masked(reference, supernet, cell_type, index, valid)
        best = space.candidates(cell_type, index)[accuracies.index(min(accuracies))]
        supernet.decide(cell_type, index, best)
        return
    without = {}
    for edge in supernet.inputs(cell_type, -index):
        with supernet.mask(cell_type, edge):
            without[edge] = plain_accuracy(reference, supernet.presence, valid)
    for edge in sorted(without, key=without.__getitem__)[2:]:
        supernet.prune(cell_type, edge)


def retrain(space: str) -> Turns:
    data = images(64)
    settings = RetrainSettings(layers=8, channels=16, auxiliary=0.0, drop_path=0.0)
    if space == "nb201":
        found, layers = Arch(("nor_conv_3x3",) * 6), 1
    else:
        found, layers = PUBLISHED["DARTS_PT_S2_1" if space == "s2" else "DARTS_V2"], 8
    network = Network(found, layers, 16, CLASSES)
    supernet, reference = pair(space, SearchSettings(layers=layers))
    for cell_type, cell in found.cells.items():
        for edge, ends in enumerate(supernet.space.edges):
            names = [name for name, *place in cell.operations if tuple(place) == ends]
            if names:
                supernet.decide(cell_type, edge, supernet.space.operations[cell_type][edge].index(names[0]))
            else:
                supernet.prune(cell_type, edge)
    task = Retraining(network, settings, data, data)
    plain = PlainBilevel(reference, supernet.presence, SearchSettings(), 0.025)
    plain.alpha_optimizer = plain.w_optimizer

    def theirs() -> None:
        batch, labels = data.images, data.labels
        reference.zero_grad()
        F.cross_entropy(reference(batch, supernet.presence), labels).backward()
        nn.utils.clip_grad_norm_(plain.w, settings.clip)
        plain.w_optimizer.step()

    return {"retrain": lambda: task._epoch(0.0), "reference": theirs}


def data(space: str) -> Turns:
    """1,024 images of 32x32 pixels, cropped, flipped, normalised, in batches of 64."""
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


def timed(name: str, space: str, repeats: int) -> list[dict]:
    """Median seconds, in turns, after a turn that does not count."""
    turns = TIMED[name](space)
    seconds: dict[str, list[float]] = {each: [] for each in turns}
    for repeat in range(repeats + 1):
        for each, function in turns.items():
            started = time.perf_counter()
            function()
            if repeat:
                seconds[each].append(time.perf_counter() - started)
    theirs = median(seconds.pop("reference"))
    return [compared(each, space, median(own), theirs) for each, own in seconds.items()]


class Counter(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def dispatched(space: str) -> list[dict]:
    supernet, reference = pair(space, settings_of(space))
    batch, counts = torch.randn(2, 3, 32, 32), []
    for function in (lambda: supernet(batch), lambda: reference(batch, supernet.presence)):
        with Counter() as counter:
            function()
        counts.append(counter.count)
    return [compared("dispatch", space, *counts, unit="")]


def peak(space: str, which: str, threads: int) -> float:
    """MiB above what was there before the step; of a process that has done nothing else."""
    torch.set_num_threads(threads)
    runs.keep_memory()
    function = step(space)[which]
    before = peak_so_far()
    function()
    return peak_so_far() - before


def peak_so_far() -> float:
    """MiB that this process has held at once (Linux); what `resource` says includes the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024


def peaks(space: str, threads: int) -> list[dict]:
    found = {}
    for which in ("reference", "step", "step, low memory"):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
            found[which] = executor.submit(peak, space, which, threads).result()
    theirs = found.pop("reference")
    return [compared(f"memory of a {which}", space, ours, theirs, "MiB") for which, ours in found.items()]


def compared(what: str, space: str, ours: float, theirs: float, unit: str = "s") -> dict:
    """A row of the table, printed."""
    ratio = theirs / ours if unit == "s" else ours / theirs
    print(f"| {what} | {space} | {ours:.4g} {unit} | {theirs:.4g} {unit} | {ratio:.2f} |", flush=True)
    return {"what": what, "space": space, "ours": ours, "reference": theirs, "ratio": ratio, "unit": unit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    every = (*TIMED, "select", "memory", "dispatch")
    parser.add_argument("what", nargs="*", metavar="WHAT", help=", ".join(every))
    parser.add_argument("--space", nargs="+", choices=("s2", "darts", "nb201"), default=["s2", "darts", "nb201"])
    parser.add_argument("--repeats", type=int, default=5)
    for name, default in OF_SELECT.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"of select, {default or 'all images'}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save", type=Path, metavar="JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    runs.keep_memory()
    rows = []
    print(f"{args.threads} threads, medians of {args.repeats}; of select, medians and means of {args.seeds} seeds\n")
    print("| | space | ours | reference | ratio |\n|---|---|---|---|---|")
    for name in args.what or every:
        for space in args.space if name != "data" else ["-"]:
            if name in TIMED:
                rows += timed(name, space, args.repeats)
            else:
                measure = {
                    "select": partial(selections, **{name: getattr(args, name) for name in OF_SELECT}),
                    "memory": partial(peaks, threads=args.threads),
                    "dispatch": dispatched,
                }[name]
                rows += measure(space)
    if args.save:
        args.save.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
