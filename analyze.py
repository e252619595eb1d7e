"""The figures and tables of the paper that take many runs: run what is missing, then print or draw.

    python analyze.py table4 --dataset my_images --preset laptop --benchmark nb201.csv
    python analyze.py table4 --dataset my_images --preset laptop --benchmark nb201.csv --method "DARTS+PT (fix α)"
    python analyze.py fig4 --dataset my_images --preset laptop --benchmark nb201.csv --jobs 2

The runs are those of train_search.py and select.py, whose command lines are printed. Their results lie in a folder,
with a list of the commands that made them: what is there is not computed again, and what was stopped goes on.
"""

from __future__ import annotations

import contextlib
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
    """The runs behind a figure: their folder, and in `commands.json` the command that made each result, with the
    fingerprint of the supernet that it read. Only one study at a time can work in a folder."""

    def __init__(self, folder: Path, jobs: int, threads: int | None):
        self.folder, self.jobs, self.failed = folder, jobs, False
        self.threads = threads or max(1, (os.cpu_count() or 1) // jobs)
        self.ledger = folder / "commands.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.done: dict[str, str] = dict(json.loads(self.ledger.read_text())) if self.ledger.exists() else {}
        except (OSError, ValueError, TypeError) as error:
            raise runs.UserError(f"cannot work in {folder}: {error}") from None

    def run(self, wanted: dict[Path, list[str]], source: Callable[[Path], Path] | None = None) -> None:
        """Run the commands, by the result that each writes, that have not been run yet, `jobs` at a time. `source` is
        what a result was made from."""

        def entry(save: Path) -> str:
            return shlex.join(wanted[save]) + (f"  # {runs.fingerprint(source(save))}" if source else "")

        missing = {
            save: command
            for save, command in wanted.items()
            if not save.exists() or self.done.get(save.name) != entry(save)
        }
        if not missing:
            return
        with ThreadPoolExecutor(self.jobs) as executor, tqdm(total=len(missing), unit="run") as bar:
            running = {executor.submit(self._run, save, command, bar): save for save, command in missing.items()}
            try:
                for each in as_completed(running):
                    if each.result():
                        self.done[running[each].name] = entry(running[each])
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
            [sys.executable, str(HERE / script), *arguments, *how],
            stdout=subprocess.PIPE,
            stderr=None if self.jobs == 1 else subprocess.PIPE,  # several at a time would write over one another
            text=True,
            check=False,
        )
        if ended.returncode:
            self.failed = True
            said = [line for line in (ended.stderr or "").splitlines() if ": error: " in line]
            reason = said[-1] if said else f"ended with status {ended.returncode}"
            bar.write(f"failed, waiting for what else is running: {reason}", file=sys.stderr)
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


class Selected(NamedTuple):
    """A selection from a supernet on NAS-Bench-201 and the test error in percent of what it found, by data set."""

    method: str
    seed: int
    epoch: int
    test_error: dict[str, float]


def select_on_nb201(
    args: Namespace, study: Study, benchmark: dict[str, dict[str, float]], points: list[tuple[str, int, int, Path]]
) -> list[Selected]:
    """Select at these points: method, seed, epoch and supernet."""
    saves, commands, sources = [], {}, {}
    for method, seed, _, supernet in points:
        criterion = METHODS[method].criterion
        tune_epochs = 0 if criterion == "magnitude" else args.tune_epochs
        tuning = [] if tune_epochs is None else ["--tune-epochs", str(tune_epochs)]
        save = supernet.with_suffix(f".{criterion}.json")
        commands[save] = [
            *("select.py", "--ckpt", str(supernet), "--criterion", criterion, "--seed", str(seed), *tuning),
            *("--device", args.device, "--benchmark", str(args.benchmark)),
        ]
        sources[save] = supernet
        saves.append(save)
    study.run(commands, sources.__getitem__)
    found = [benchmark[str(runs.load_architecture(str(save))[0])] for save in saves]
    return [Selected(*point[:3], errors) for point, errors in zip(points, found, strict=True)]


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
    retrained = darts_space_errors(args.folder)
    supernets = search_on_nb201(args, study)
    points = [(name, seed, -1, supernets[METHODS[name].alpha, seed]) for name in args.method for seed in args.seeds]
    selected = select_on_nb201(args, study, benchmark, points)
    everything = [errors["cifar10"] for errors in benchmark.values()]
    print(f"\nTable 4: test error (%) on CIFAR-10, seeds {' '.join(map(str, args.seeds))}, mean ± standard deviation\n")
    print("| | NAS-Bench-201, paper | here | by seed | as good by luck | DARTS space, paper | here |")
    print("|---|---|---|---|---|---|---|")
    for name in args.method:
        values = [each.test_error["cifar10"] for each in selected if each.method == name]
        on_darts, on_nb201 = METHODS[name].paper
        by_seed = ", ".join(f"{value:.2f}" for value in values)
        there = spread(retrained[name]) if retrained[name] else "-"
        share = 100 * luck(values, everything)
        lucky = f"{share:.2f}%" if share >= 0.01 else "< 0.01%"
        print(f"| {name} | {on_nb201:.2f} | {spread(values)} | {by_seed} | {lucky} | {on_darts:.2f} | {there} |")
    middle = f"median {median(everything):.2f}, best {min(everything):.2f}"
    print(f"| a random architecture | - | {spread(everything)} | {middle} | - | - | - |")
    content = {
        "nb201": [{"method": each.method, "seed": each.seed, "test_error": each.test_error} for each in selected],
        "random": {"mean": mean(everything), "sd": stdev(everything)},
        "darts_space": retrained,
    }
    runs.write_json(study.folder / "table4.json", content)
    print(f"\nwritten to {study.folder / 'table4.json'}")


def darts_space_errors(folder: Path) -> dict[str, list[float]]:
    """Test errors in percent on CIFAR-10, by method, of the networks in a folder that were trained in the paper's
    setting and whose genotype was selected on the DARTS space and stands beside them."""
    methods: dict[str, set[str]] = {}
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(runs.UserError, KeyError, TypeError):  # other files, and damaged ones
            found = runs.load_architecture(str(path))[1]
            for name, method in METHODS.items():
                how = (found["search"]["alpha"], found["criterion"])
                tuned = found["criterion"] == "magnitude" and found["tune_epochs"] > 0  # DARTS+PT-Mag
                if found["space"] in ("darts", "darts+none") and how == method[:2] and not tuned:
                    methods.setdefault(found["text"], set()).add(name)
    errors: dict[str, list[float]] = {name: [] for name in METHODS}
    for path in sorted(folder.glob("*.pt")) if methods else ():
        with contextlib.suppress(runs.UserError, KeyError, TypeError, IndexError):
            network = runs.load_checkpoint(path, "network")
            settings = network["settings"]
            if network["finished"] and (settings["dataset"], settings["preset"]) == ("cifar10", "paper"):
                for name in methods.get(settings["genotype"], ()):
                    errors[name].append(network["records"][-1]["test_error"])
    return errors


def fig4(args: Namespace) -> None:
    """Fig. 4 and 8: true test error on NAS-Bench-201 over the epochs of the search, selected from kept snapshots"""
    benchmark = runs.load_benchmark(args.benchmark)
    study = Study(args.folder, args.jobs, args.threads)
    points = []
    for (alpha, seed), supernet in search_on_nb201(args, study).items():
        epochs = runs.load_checkpoint(supernet, "supernet")["settings"]["epochs"]
        at = {epoch: runs.snapshot(supernet, epoch) for epoch in range(args.keep_every, epochs, args.keep_every)}
        missing = [path.name for path in at.values() if not path.exists()]
        if missing:
            raise runs.UserError(f"{supernet} was trained without --keep-every {args.keep_every}: no {missing[0]}")
        names = [name for name in args.method if METHODS[name].alpha == alpha]
        points += [(name, seed, *each) for name in names for each in (at | {epochs: supernet}).items()]
    selected = select_on_nb201(args, study, benchmark, points)
    average = {name: mean(errors[name] for errors in benchmark.values()) for name in runs.BENCHMARKED}
    curves = [each._asdict() for each in selected]
    runs.write_json(study.folder / "fig4.json", {"points": curves, "average": average})
    runs.save_picture(study.folder / "fig4.png", lambda figure: runs.draw_trajectories(figure, curves, average))
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
    args.method = list(dict.fromkeys(args.method or METHODS))
    args.seeds = list(dict.fromkeys(args.seeds))
    return args


def run(argv: Sequence[str] | None) -> None:
    args = parse(argv)
    COMMANDS[args.command](args)


def main(argv: Sequence[str] | None = None) -> int:
    return runs.command("analyze.py", run, argv, again="the same command")


if __name__ == "__main__":
    sys.exit(main())
