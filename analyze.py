"""The figures and tables of the paper that take many runs: run what is missing, then print or draw.

    python analyze.py table4 --dataset my_images --preset laptop --benchmark nb201.csv
    python analyze.py table4 --dataset my_images --preset laptop --benchmark nb201.csv --method "DARTS+PT (fix α)"
    python analyze.py fig4 --dataset my_images --preset laptop --benchmark nb201.csv --jobs 2

The runs are those of train_search.py and select.py, whose command lines are printed. Their results lie in a folder,
with a list of the commands that made them: what is there is not computed again, and what was stopped goes on.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, median, stdev
from typing import NamedTuple

from tqdm import tqdm

import runs

HERE = Path(__file__).resolve().parent


class Method(NamedTuple):
    """How a supernet is trained and an architecture selected from it, and what Table 4 has: test error in percent on
    CIFAR-10, on the DARTS space and on NAS-Bench-201."""

    alpha: str
    criterion: str
    paper: tuple[float, float]


METHODS = {
    "DARTS": Method("bilevel", "magnitude", (3.00, 45.7)),
    "DARTS+PT": Method("bilevel", "perturbation", (2.61, 11.89)),
    "DARTS+PT (fix α)": Method("fixed", "perturbation", (2.87, 6.20)),
}


# ============================================================================================================
# Many runs
# ============================================================================================================


class Study:
    """The runs behind a figure: their folder, and in `commands.json` the command of every result that is complete."""

    def __init__(self, folder: Path, jobs: int, threads: int | None):
        self.folder, self.jobs, self.failed = folder, jobs, False
        self.threads = threads or max(1, (os.cpu_count() or 1) // jobs)
        self.ledger = folder / "commands.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.done: dict[str, str] = json.loads(self.ledger.read_text()) if self.ledger.exists() else {}
        except (OSError, ValueError) as error:
            raise runs.UserError(f"cannot work in {folder}: {error}") from None

    def run(self, wanted: dict[Path, list[str]]) -> None:
        """Run the commands, by the result that each writes, that have not been run yet, `jobs` at a time."""
        missing = {
            save: command
            for save, command in wanted.items()
            if not save.exists() or self.done.get(save.name) != shlex.join(command)
        }
        if not missing:
            return
        with ThreadPoolExecutor(self.jobs) as executor, tqdm(total=len(missing), unit="run") as bar:
            running = {executor.submit(self._run, save, command, bar): save for save, command in missing.items()}
            try:
                for each in as_completed(running):
                    if each.result():
                        self.done[running[each].name] = shlex.join(missing[running[each]])
                        runs.write_json(self.ledger, self.done)
                        bar.update()
            except BaseException:
                self.failed = True
                executor.shutdown(cancel_futures=True)
                raise

    def _run(self, save: Path, command: list[str], bar: tqdm) -> bool:
        """Whether it ran: not after another has failed."""
        if self.failed:
            return False
        bar.write(f"python {shlex.join(command)}", file=sys.stdout)
        script, *arguments = command
        how = ["--threads", str(self.threads), "--save", str(save), "--resume"]
        ended = subprocess.run(
            [sys.executable, str(HERE / script), *arguments, *how], capture_output=True, text=True, check=False
        )
        if ended.returncode:
            self.failed = True
            reason = (ended.stderr.strip().splitlines() or ["no message"])[-1]
            raise runs.UserError(f"python {shlex.join(command)}: {reason}")
        bar.write(ended.stdout.strip().splitlines()[-1], file=sys.stdout)
        return True


# ============================================================================================================
# NAS-Bench-201: Table 4, Fig. 4 and Fig. 8
# ============================================================================================================


def search_on_nb201(args: Namespace, study: Study) -> dict[tuple[str, int], Path]:
    """The supernets of the methods asked for, by α and seed."""
    options = [("--dataset", args.dataset), ("--data", args.data), ("--preset", args.preset), ("--device", args.device)]
    names = ("epochs", "batch_size", "channels", "layers", "image_size", "limit", "lr")
    options += [(f"--{name.replace('_', '-')}", getattr(args, name)) for name in names]
    given = [text for name, value in options if value is not None for text in (name, str(value))]
    supernets, commands = {}, {}
    for alpha in dict.fromkeys(METHODS[name].alpha for name in args.method):
        for seed in args.seeds:
            save = study.folder / f"nb201-{alpha}-{seed}.pt"
            each = ["--alpha", alpha, "--seed", str(seed), "--keep-every", str(args.keep_every)]
            commands[save] = ["train_search.py", "--space", "nb201", *given, *each]
            supernets[alpha, seed] = save
    study.run(commands)
    return supernets


def selection_on_nb201(args: Namespace, supernet: Path, criterion: str, seed: int) -> tuple[Path, list[str]]:
    """Where the selection from a supernet goes, and its command."""
    tuning = {"magnitude": "0"}.get(criterion, args.tune_epochs)
    given = ["--tune-epochs", str(tuning)] if tuning is not None else []
    given += ["--device", args.device, "--benchmark", str(args.benchmark)]
    command = ["select.py", "--ckpt", str(supernet), "--criterion", criterion, "--seed", str(seed), *given]
    return supernet.with_suffix(f".{criterion}.json"), command


def true_errors(path: Path) -> dict[str, float]:
    """By data set, in percent, of the architecture in a file that select.py wrote with --benchmark."""
    return runs.load_architecture(str(path))[1]["test_error"]


def spread(values: Sequence[float]) -> str:
    return f"{mean(values):.2f} ± {stdev(values):.2f}" if len(values) > 1 else f"{values[0]:.2f}"


def luck(values: Sequence[float], among: Sequence[float], draws: int = 100_000) -> float:
    """How often the mean of as many architectures, drawn at random, is as low as that of these."""
    generator = random.Random(0)
    target, count = sum(values), len(values)
    return sum(sum(generator.choices(among, k=count)) <= target for _ in range(draws)) / draws


def table4(args: Namespace) -> None:
    """Table 4: DARTS, DARTS+PT and DARTS+PT (fix α) on NAS-Bench-201, and on the DARTS space where results are saved"""
    benchmark = runs.load_benchmark(args.benchmark)
    study = Study(args.folder, args.jobs, args.threads)
    supernets = search_on_nb201(args, study)
    files = {
        name: [
            selection_on_nb201(args, supernets[METHODS[name].alpha, seed], METHODS[name].criterion, seed)
            for seed in args.seeds
        ]
        for name in args.method
    }
    study.run({save: command for each in files.values() for save, command in each})
    found = {name: [true_errors(save) for save, _ in each] for name, each in files.items()}
    everything = [errors["cifar10"] for errors in benchmark.values()]
    retrained = darts_space_errors(args.folder)
    print(f"\nTable 4: test error (%) on CIFAR-10, seeds {' '.join(map(str, args.seeds))}, mean ± standard deviation\n")
    print("| | NAS-Bench-201, paper | here | by seed | as good by chance | DARTS space, paper | here |")
    print("|---|---|---|---|---|---|---|")
    for name, errors in found.items():
        values = [each["cifar10"] for each in errors]
        on_darts, on_nb201 = METHODS[name].paper
        each = ", ".join(f"{value:.2f}" for value in values)
        there = spread(retrained[name]) if retrained[name] else "-"
        chance = f"{100 * luck(values, everything):.2g}%"
        print(f"| {name} | {on_nb201:.2f} | {spread(values)} | {each} | {chance} | {on_darts:.2f} | {there} |")
    middle = f"median {median(everything):.2f}, best {min(everything):.2f}"
    print(f"| a random architecture | - | {spread(everything)} | {middle} | - | - | - |")
    chosen = {"seeds": args.seeds, "test_error": found, "random": {"mean": mean(everything), "sd": stdev(everything)}}
    runs.write_json(study.folder / "table4.json", chosen | {"darts_space": retrained})
    print(f"\nwritten to {study.folder / 'table4.json'}")


def darts_space_errors(folder: Path) -> dict[str, list[float]]:
    """Test errors in percent on CIFAR-10 of the networks in a folder whose genotype was selected on the DARTS space and
    stands beside them, by method."""
    methods = {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        if content.get("space") in ("darts", "darts+none") and "text" in content:
            methods[content["text"]] = (content["search"]["alpha"], content["criterion"])
    errors: dict[str, list[float]] = {name: [] for name in METHODS}
    for path in sorted(folder.glob("*.pt")):
        try:
            content = runs.load_checkpoint(path, "network")
        except runs.UserError:
            continue
        for name, method in METHODS.items():
            how = methods.get(content["settings"]["genotype"])
            if content["finished"] and content["settings"]["dataset"] == "cifar10" and how == method[:2]:
                errors[name].append(content["records"][-1]["test_error"])
    return errors


def fig4(args: Namespace) -> None:
    """Fig. 4 and 8: true test error on NAS-Bench-201 over the epochs of the search, selected from kept snapshots"""
    benchmark = runs.load_benchmark(args.benchmark)
    study = Study(args.folder, args.jobs, args.threads)
    supernets = search_on_nb201(args, study)
    commands, points = {}, []
    for name in args.method:
        alpha, criterion, _ = METHODS[name]
        for seed in args.seeds:
            supernet = supernets[alpha, seed]
            epochs = runs.load_checkpoint(supernet, "supernet")["settings"]["epochs"]
            at = {epoch: path for epoch, path in runs.snapshots(supernet).items() if epoch < epochs}
            for epoch, path in (at | {epochs: supernet}).items():
                save, commands[save] = selection_on_nb201(args, path, criterion, seed)
                points.append((name, seed, epoch, save))
    study.run(commands)
    curves = [
        {"method": name, "seed": seed, "epoch": epoch, "test_error": true_errors(save)}
        for name, seed, epoch, save in points
    ]
    chance = {name: mean(errors[name] for errors in benchmark.values()) for name in runs.BENCHMARKED}
    runs.write_json(study.folder / "fig4.json", {"points": curves, "random": chance})
    runs.save_picture(study.folder / "fig4.png", lambda figure: runs.draw_trajectories(figure, curves, chance))
    print(f"\nwritten to {study.folder / 'fig4.png'} and {study.folder / 'fig4.json'}")


# ============================================================================================================
# Command line
# ============================================================================================================

COMMANDS: dict[str, Callable[[Namespace], None]] = {"fig4": fig4, "table4": table4}


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = runs.Parser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=runs.Parser)
    for name, function in COMMANDS.items():
        each = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        each.add_argument("--benchmark", required=True, type=Path, metavar="CSV", help="true accuracies of all cells")
        each.add_argument("--method", action="append", choices=tuple(METHODS), help="repeatable; all by default")
        each.add_argument("--seeds", nargs="+", type=runs.whole(0), default=[0, 1, 2, 3, 4], metavar="N")
        each.add_argument("--keep-every", type=runs.whole(1), default=5, metavar="N", help="snapshots, 5 by default")
        each.add_argument("--tune-epochs", type=runs.whole(0), metavar="N", help="after every decision")
        each.add_argument("--folder", type=Path, default=Path("results"), metavar="DIR", help="of all results")
        each.add_argument("--jobs", type=runs.whole(1), default=1, metavar="N", help="runs at a time")
        runs.add_training_options(each)
        runs.add_data_options(each)
    args = parser.parse_args(argv)
    args.method = args.method or list(METHODS)
    return args


def run(argv: Sequence[str] | None) -> None:
    args = parse(argv)
    COMMANDS[args.command](args)


def main(argv: Sequence[str] | None = None) -> int:
    return runs.command("analyze.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
