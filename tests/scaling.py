"""Measures how the time and memory of a bilevel step on S2 grow. This is no test: run it by hand, on Linux.

    python tests/scaling.py --save docs/scaling.png

From batches of 64 images of 32x32 pixels, C = 16 and 8 cells, one thing changes at a time: the batch, C, the cells, or
the processes, which share the batch. Each process has one thread. The time is the median of some steps after a first
one; the memory is its peak above what was there before it, summed over the processes. The slope s of each line means
that doubling one thing multiplies the other by 2^s.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import linear_regression, median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

import runs
from genotypes import SPACES
from ptnas import Bilevel, SearchSettings
from tests.benchmark import CLASSES, draw_images, read_peak, take_time

START = {"batch": 64, "channels": 16, "cells": 8, "processes": 1}
VALUES = {
    "batch": (16, 32, 64, 128, 256), "channels": (8, 16, 24, 32), "cells": (5, 8, 11, 14, 20), "processes": (1, 2),
}  # fmt: skip


def take_steps(case: dict[str, int], steps: int, rank: int, port: int, results: multiprocessing.Queue) -> None:
    """Measures the steps of one process, and puts (seconds, MiB) into the results."""
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


def measure(case: dict[str, int], steps: int) -> tuple[float, float]:
    """Returns the seconds of a step and the MiB of all processes."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = range(case["processes"])
    processes = [context.Process(target=take_steps, args=(case, steps, rank, port, results)) for rank in ranks]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return max(seconds for seconds, _ in found), sum(memory for _, memory in found)


def find_slope(points: Iterable[tuple[int, float]]) -> float:
    """Returns the slope of the line through these points on axes with logarithms."""
    x, y = zip(*points, strict=True)
    return linear_regression(torch.tensor(x).log().tolist(), torch.tensor(y).log().tolist()).slope


def draw(measured: dict[str, list], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(measured), figsize=(12, 5), sharex="col", sharey="row", layout="constrained")
    for column, (what, points) in zip(axes.T, measured.items(), strict=True):
        for axis, values, unit in zip(column, (1, 2), ("seconds", "MiB"), strict=True):
            curve = [(point[0], point[values]) for point in points]
            axis.loglog(*zip(*curve, strict=True), "o-", base=2, label=f"slope {find_slope(curve):.2f}")
            axis.set_xticks([x for x, _ in curve])
            axis.xaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_major_formatter("{x:g}")
            axis.legend()
            axis.set_ylabel(unit if what == "batch" else "")
        column[1].set_xlabel(what)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--save", type=Path, default=Path("scaling.png"), metavar="PNG")
    args = parser.parse_args()
    seen, measured = {}, {}
    for what, values in VALUES.items():
        measured[what] = []
        for value in values:
            case = START | {what: value}
            key = tuple(case.values())
            if key not in seen:
                seen[key] = measure(case, args.steps)
            print(f"{case}: {seen[key][0]:.2f} s, {seen[key][1]:.0f} MiB", flush=True)
            measured[what].append((value, *seen[key]))
        slopes = [find_slope([(point[0], point[place]) for point in measured[what]]) for place in (1, 2)]
        print(f"{what}: slope of the time {slopes[0]:.2f}, of the memory {slopes[1]:.2f}", flush=True)
    args.save.with_suffix(".json").write_text(json.dumps(measured))
    draw(measured, args.save)


if __name__ == "__main__":
    main()
