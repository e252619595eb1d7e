"""The results of the paper, from many runs (Sec. 5 and 6): Fig. 4, 6, 8 and 9, Tables 2-5.

    python reproduce.py table4 --dataset my_images --preset laptop --benchmark nb201.csv
    python reproduce.py table4 --dataset my_images --preset laptop --benchmark nb201.csv --method all --jobs 2
    python reproduce.py fig4 --dataset my_images --preset laptop --benchmark nb201.csv --jobs 2
    python reproduce.py table3 --run --jobs 2                        # S1-S4 on the digits; without --run: what is there
    python reproduce.py table2 --run --dataset cifar10               # the DARTS space, in the paper's setting
    python reproduce.py fig6 genotype.jsonl magnitude.jsonl
    python reproduce.py fig9 --ckpt supernet.pt --benchmark nb201.csv

These commands start train_search.py, select.py and retrain.py, whose command lines are printed. Results lie in a
folder, with a list of the commands that made them: what is there is not computed again, and what was stopped goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, NamedTuple

from tqdm import tqdm

import plots
import runs

HERE = Path(__file__).resolve().parent
Record = dict[str, Any]

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
        raise runs.UserError("this starts commands of its own, and torchrun has started several processes")


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
                runs.spread(errors),
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
            errors = [
                runs.spread([each.test_error for each in own]),
                runs.spread([each.test_error_top5 for each in own]),
            ]
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
                cells += [runs.spread(own), by_seed(own)] if own else ["-", "-"]
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
        there = runs.spread(on_darts[name]) if on_darts[name] else "-"
        share = 100 * luck(values, everything)
        lucky = f"{share:.2f}%" if share >= 0.01 else "< 0.01%"
        on_darts_paper, here = TABLE_2[name][0], runs.spread(values)
        print(f"| {name} | {of_paper} | {here} | {by_seed(values)} | {lucky} | {on_darts_paper} | {there} |")
    middle = f"median {median(everything):.2f}, best {min(everything):.2f}"
    print(f"| a random architecture | - | {runs.spread(everything)} | {middle} | - | - | - |")
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


def save_trajectories(picture: Path, points: list[Record], average: dict[str, float | None], x: str, y: str) -> None:
    """A figure of curves."""
    numbers = {"points": points, "average": average}
    runs.save_figure(picture, numbers, lambda figure: plots.draw_trajectories(figure, points, average, x, y))


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


def add_picture_option(parser: ArgumentParser, name: str) -> None:
    text = f"{name}.png by default; the numbers stand beside it as .json"
    parser.add_argument("--save", type=Path, default=Path(f"{name}.png"), metavar="FILE", help=text)


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
        runs.check_picture(args)
    if "method" in args:
        chosen = args.method or args.methods
        args.method = [name for name in METHODS if name in chosen or "all" in chosen]
        args.seeds = list(dict.fromkeys(args.seeds))
    return args


def run(argv: Sequence[str] | None) -> None:
    args = parse(argv)
    COMMANDS[args.command][0](args)


def main(argv: Sequence[str] | None = None) -> int:
    return runs.command("reproduce.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
