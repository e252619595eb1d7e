"""Kills the commands at random moments and lets them go on, again and again, by hand: this is no test.

    python tests/faults.py --kills 100                       # every plan; takes about half an hour
    python tests/faults.py "select by masking" --kills 20

A run is killed (SIGKILL), or now and then asked to stop (SIGTERM, SIGINT), until it has come to its end; then its
supernet, network, genotype, log and numbers must be those of a run that nothing has disturbed, bit for bit, times
aside. This process has loaded everything and forks the runs, so that they begin at once; for the plans of torchrun, two
that compute together, as torchrun would start them. `tests/test_resume.py` has the same in short.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from tests.conftest import load_script

SCRIPTS = {name: load_script(name).main for name in ("train_search", "select", "retrain", "analyze")}
SMALL = ("--channels", "4", "--threads", "1")
SEARCH = ("train_search", "--space", "s2", "--epochs", "3", "--limit", "300", "--lr", "0.1", *SMALL)
RETRAIN = ("retrain", "--arch", "DARTS_V2", "--epochs", "3", "--layers", "3", "--limit", "400", *SMALL)
FIGURE = ("analyze", "--ckpt", "SUPERNET", "--threads", "1")
# By name: script and arguments; SUPERNET is one that was trained before.
PLANS: dict[str, tuple[str, ...]] = {
    "train_search": (*SEARCH, "--keep-every", "1"),
    "train_search, second order with noise": (*SEARCH, "--order", "2", "--noise", "gaussian", "--epochs", "2"),
    "train_search, SGAS by masking": (*SEARCH, "--sgas", "perturbation", "--epochs", "6", "--limit", "150"),
    "select by masking": ("select", "--ckpt", "SUPERNET", "--tune-epochs", "1", "--threads", "1"),
    "select by discretisation": (
        "select", "--ckpt", "SUPERNET", "--criterion", "discretization", "--tune-epochs", "1", "--tune", "converge",
        "--threads", "1",
    ),
    "retrain": RETRAIN,
    "analyze fig1": ("analyze", "fig1", *FIGURE[1:], "--tune-epochs", "1", "--edges", "4"),
    "analyze table1": (
        "analyze", "table1", *FIGURE[1:], "--epochs", "2", "--channels", "2", "--layers", "3", "--shuffles", "4",
    ),
    "torchrun train_search": ("torchrun", *SEARCH[:3], "--noise", "uniform", *SEARCH[3:]),
    "torchrun retrain": ("torchrun", *RETRAIN, "--preset", "paper"),
}  # fmt: skip


def forked(script: str, arguments: list[str], folder: Path, environment: dict[str, str] | None = None) -> int:
    """Start a script in a process of its own that has everything loaded, and a group of its own; its number."""
    process = os.fork()
    if process:
        return process
    status = 70
    try:
        os.chdir(folder)
        os.setpgrp()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let what runs in the background ignore it
        os.environ.update(environment or {})
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
        status = SCRIPTS[script](arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def started(plan: Sequence[str], folder: Path, *more: str) -> list[int]:
    """The processes of a plan: one, or two that compute together, as torchrun starts them."""
    if plan[0] != "torchrun":
        return [forked(plan[0], [*plan[1:], *more], folder)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    ranks = ({"RANK": str(n), "LOCAL_RANK": str(n), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"} for n in range(2))
    return [forked(plan[1], [*plan[2:], *more], folder, where | rank) for rank in ranks]


def waited(process: int, seconds: float | None = None) -> int | None:
    """The status with which the process ends within this time."""
    end = None if seconds is None else time.monotonic() + seconds
    while end is None or time.monotonic() < end:
        number, status = os.waitpid(process, 0 if end is None else os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def killed(processes: Sequence[int]) -> list[int]:
    """With what status processes have ended that are killed, unless they had before."""
    for process in processes:
        os.kill(process, signal.SIGKILL)
    return [waited(process) for process in processes]


def survive(plan: Sequence[str], folder: Path, generator: random.Random, life: float) -> tuple[int, int]:
    """Run a plan to its end though it is killed after at most `life` seconds, each time; how often it was killed, and
    how often it was asked to stop and did so."""
    kills, stops = 0, 0
    while True:
        minutes = generator.choice(("1e-9", "0.002", "10"))  # after every batch, now and then, at the end of steps
        processes = started(plan, folder, "--resume", "--checkpoint-minutes", minutes)
        status = waited(processes[0], generator.uniform(0, life))
        if status is None and generator.random() < 0.2:
            wanted = generator.choice((signal.SIGTERM, signal.SIGINT))
            for process in processes:
                os.kill(process, wanted)
            ended = [waited(process, 20) for process in processes]
            for place, process in enumerate(processes):
                if ended[place] is None:  # one of two that waits for the other, as torchrun does it
                    ended[place : place + 1] = killed([process])
            if {128 + wanted, -wanted} & {*ended}:  # the latter before the command has begun
                stops += 1
                continue
            status, processes = ended[0], processes[:1]
        elif status is None:
            ended = killed(processes)
            if ended[0] == -signal.SIGKILL:
                kills += 1
                life *= 1.05  # however slow the machine is, it comes to its end
                continue
            status, processes = ended[0], processes[:1]
        for process in processes[1:]:
            waited(process)
        if status:
            raise RuntimeError(f"ended with {status}: {(folder / 'stderr').read_text()[-2000:]}")
        return kills, stops


def undisturbed(plan: Sequence[str], folder: Path, *more: str) -> float:
    """Run a plan; the seconds that it took."""
    begun = time.monotonic()
    statuses = [waited(process) for process in started(plan, folder, *more)]
    if any(statuses):
        raise RuntimeError(f"failed: {(folder / 'stderr').read_text()[-2000:]}")
    return time.monotonic() - begun


def results(folder: Path) -> dict[str, Any]:
    """What the runs in a folder have left, by file, without times."""
    found: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".pt":
            found[path.name] = timeless(torch.load(path, weights_only=True))
        elif path.suffix == ".json":
            found[path.name] = timeless(json.loads(path.read_text()))
        elif path.suffix == ".jsonl":
            found[path.name] = [timeless(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.suffix == ".png":
            found[path.name] = True
    return found


def timeless(value: Any) -> Any:
    """Without what is named seconds, and with tensors as bytes."""
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if key != "seconds"}
    if isinstance(value, list | tuple):
        return [timeless(each) for each in value]
    return (value.shape, value.numpy().tobytes()) if torch.is_tensor(value) else value


def prepared(folder: Path) -> str:
    """A supernet for the plans that need one."""
    folder.mkdir()
    undisturbed(SEARCH, folder)
    return str(folder / "supernet.pt")


def check(plan: tuple[str, ...], folder: Path, kills: int, generator: random.Random) -> str:
    """Runs of a plan until they were killed so often; what to say of it. Raises AssertionError if one has come to
    another end than one that was not disturbed."""
    (folder / "whole").mkdir(parents=True)
    took = undisturbed(plan, folder / "whole")
    wanted = results(folder / "whole")
    survived, stopped, runs = 0, 0, 0
    while survived < kills:
        own = folder / f"killed{runs}"
        own.mkdir()
        counts = survive(plan, own, generator, 0.5 * took)
        survived, stopped, runs = survived + counts[0], stopped + counts[1], runs + 1
        got = results(own)
        assert got.keys() == wanted.keys(), (plan, sorted(got), sorted(wanted))
        for name, value in wanted.items():
            assert got[name] == value, (plan, name)
    return f"{survived} kills and {stopped} stops in {runs} runs of {took:.0f} s, every bit the same"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("plan", nargs="*", metavar="PLAN", help=", ".join(PLANS))
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="of every plan, 100 by default")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    generator = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        supernet = prepared(Path(folder, "supernet"))
        for name in args.plan or PLANS:
            plan = tuple(supernet if each == "SUPERNET" else each for each in PLANS[name])
            print(f"{name}: {check(plan, Path(folder, name), args.kills, generator)}", flush=True)


if __name__ == "__main__":
    main()
