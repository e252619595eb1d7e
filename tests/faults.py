"""Kills the commands at random moments and resumes them, again and again, by hand: this is no test.

    python tests/faults.py --kills 30                        # every plan
    python tests/faults.py "select by masking" --kills 100

A run is killed (SIGKILL), or now and then asked to stop (SIGTERM, SIGINT), until it reaches its end. Then its
checkpoint, result and log must have the bits of an undisturbed run, apart from times. A killed run loses the step in
hand, so it may live for about two steps. This process loads the scripts and forks the runs, so that they start at once.
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
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from tqdm import tqdm

from tests.conftest import load_script

SCRIPTS = {name: load_script(name).main for name in ("train_search", "select", "retrain", "analyze")}
SMALL = ("--channels", "2", "--limit", "64", "--threads", "1", "--device", "cpu")
SEARCH = ("train_search", "--space", "s2", "--epochs", "4", *SMALL)
SELECT = ("select", "--ckpt", "SUPERNET", "--tune-epochs", "1", *SMALL[4:])
RETRAIN = ("retrain", "--arch", "DARTS_V2", "--preset", "paper", "--epochs", "4", "--layers", "3", *SMALL)
# By name: script and arguments. SUPERNET stands for a supernet that is trained first.
PLANS: dict[str, tuple[str, ...]] = {
    "train_search": (*SEARCH, "--keep-every", "1"),
    "train_search, second order with noise": (*SEARCH, "--order", "2", "--noise", "gaussian"),
    "train_search, SGAS by masking": (*SEARCH, "--sgas", "perturbation", "--epochs", "16"),
    "select by masking": SELECT,
    "select by discretization": (*SELECT, "--criterion", "discretization"),
    "retrain": RETRAIN,
    "analyze fig1": ("analyze", "fig1", "--ckpt", "SUPERNET", "--tune-epochs", "1", *SMALL[4:]),
    "torchrun train_search": ("torchrun", *SEARCH, "--noise", "uniform"),
    "torchrun retrain": ("torchrun", *RETRAIN),  # with drop-path, which differs by process
}


def fork(command: Callable, arguments: Sequence[str], folder: Path, environment: dict[str, str]) -> int:
    """Runs a command in a process group of its own, with its output in files of this folder; returns the process."""
    process = os.fork()
    if process:
        return process
    status = 70
    try:
        os.chdir(folder)
        os.setpgrp()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has background processes ignore it
        tqdm.set_lock(threading.RLock())  # the one before is shared, and stays locked if a process is killed in it
        os.environ.update(environment)
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
        status = command(arguments)
    except KeyboardInterrupt:  # before the command can tell of it, or after it
        status = 128 + signal.SIGINT
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def start(plan: Sequence[str], folder: Path, *more: str) -> list[int]:
    """Starts a plan and returns its processes: one, or two that compute together, as torchrun starts them."""
    if plan[0] != "torchrun":
        return [fork(SCRIPTS[plan[0]], [*plan[1:], *more], folder, {})]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    ranks = ({"RANK": str(n), "LOCAL_RANK": str(n), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"} for n in range(2))
    return [fork(SCRIPTS[plan[1]], [*plan[2:], *more], folder, where | rank) for rank in ranks]


def wait(process: int, seconds: float = 600) -> int | None:
    """Returns the exit status of a process, negative after a signal, or None if it is not over after this time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number, status = os.waitpid(process, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def end(processes: Sequence[int], number: int) -> list[int]:
    """Sends a signal to processes, kills those that then wait for others, and returns the exit statuses."""
    for process in processes:
        os.kill(process, number)
    statuses = [wait(process, 20) for process in processes]
    for place, process in enumerate(processes):
        if statuses[place] is None:
            os.kill(process, signal.SIGKILL)
            statuses[place] = wait(process)
    return statuses


def finish(plan: Sequence[str], folder: Path, *more: str) -> float:
    """Runs a plan undisturbed and returns the seconds that it takes."""
    began = time.monotonic()
    statuses = [wait(process) for process in start(plan, folder, *more)]
    if any(statuses):
        raise RuntimeError(f"failed: {(folder / 'stderr').read_text()[-2000:]}")
    return time.monotonic() - began


def interrupt(plan: Sequence[str], folder: Path, kills: int, life: float, counts: Counter) -> None:
    """Runs a plan to its end, though signals end it after at most `life` seconds, and counts them, up to `kills`."""
    while counts["SIGKILL"] < kills:
        number = random.choices((signal.SIGKILL, signal.SIGTERM, signal.SIGINT), (8, 1, 1))[0]
        processes = start(plan, folder, "--resume")
        time.sleep(random.uniform(0, life))
        statuses = end(processes, number)
        if not any(statuses):
            return
        if not {-number, 128 + number} & set(statuses):
            raise RuntimeError(f"ended with {statuses}: {(folder / 'stderr').read_text()[-2000:]}")
        counts[number.name] += 1
        life *= 1.05  # it comes to its end however slow the machine is
    finish(plan, folder, "--resume")


def read_results(folder: Path) -> dict[str, Any]:
    """Returns what the runs in a folder have left, by file, without times."""
    readers = {
        ".pt": lambda path: torch.load(path, weights_only=True),
        ".json": lambda path: json.loads(path.read_text()),
        ".jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
    }
    paths = (path for path in sorted(folder.iterdir()) if path.suffix in readers)
    return {path.name: drop_times(readers[path.suffix](path)) for path in paths}


def drop_times(value: Any) -> Any:
    """Returns the value without what is called seconds, and with tensors as bytes."""
    if isinstance(value, dict):
        return {key: drop_times(each) for key, each in value.items() if key != "seconds"}
    if isinstance(value, list | tuple):
        return [drop_times(each) for each in value]
    return (value.shape, value.numpy().tobytes()) if torch.is_tensor(value) else value


def check(name: str, supernet: Path, folder: Path, kills: int) -> str:
    """Runs a plan again and again until it was killed so often, and returns what to say of it. Raises AssertionError
    if a run ends with other bits than an undisturbed one."""
    plan = [str(supernet) if word == "SUPERNET" else word for word in PLANS[name]]
    (folder / "whole").mkdir(parents=True)
    took = finish(plan, folder / "whole")
    wanted = read_results(folder / "whole")
    [log] = (folder / "whole").glob("*.jsonl")
    steps = [json.loads(line)["seconds"] for line in log.read_text().splitlines()]
    life = took - sum(steps) + 2 * max(steps)
    counts, number = Counter(), 0
    while counts["SIGKILL"] < kills:
        own = folder / str(number)
        own.mkdir()
        number += 1
        interrupt(plan, own, kills, life, counts)
        results = read_results(own)
        assert results == wanted, f"{name}: {own} differs from {folder / 'whole'}"
    return f"{dict(counts)} in {number} runs of {len(steps)} steps and {took:.1f} s, every bit the same"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("plan", nargs="*", metavar="PLAN", help=", ".join(PLANS))
    parser.add_argument("--kills", type=int, default=30, metavar="N", help="of every plan, 30 by default")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        finish(SEARCH, Path(folder))
        for name in args.plan or PLANS:
            told = check(name, Path(folder, "supernet.pt"), Path(folder, name), args.kills)
            print(f"{name}: {told}", flush=True)


if __name__ == "__main__":
    main()
