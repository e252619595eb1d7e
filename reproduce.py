"""Reproduces the results of Sec. 5 and 6 that take many runs: Tables 2-5, Fig. 4, 6, 8 and 9.

    python reproduce.py table4                                            # or fig4: the digits, minutes on a laptop
    python reproduce.py table3 --run --folder digits                      # S1-S4 on the digits
    python reproduce.py table3 --folder digits                            # prints what is there and runs nothing
    python reproduce.py table2 --run --folder cifar10 --dataset cifar10   # the paper's setting: use a GPU
    python reproduce.py fig6 genotype.jsonl magnitude.jsonl
    python reproduce.py fig9 --ckpt supernet.pt

These commands start train_search.py, select.py and retrain.py, whose command lines they print. All results in a folder
have one setting. What is finished is not computed again; what was stopped goes on.
"""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, NamedTuple

from tqdm import tqdm

import plots
import runs
from genotypes import Arch
from ptnas import Record, SearchSettings, SelectionSettings


class Method(NamedTuple):
    """A method of Sec. 5 or 6. Methods that train their supernets alike share them. SGAS leaves nothing to select."""

    slug: str  # its name in file names
    search: str  # an option of train_search.py
    paper: str  # Table 2: test error in percent on CIFAR-10, millions of parameters, GPU days
    criterion: str = "perturbation"
    tuned: bool = True
    space: str = "darts"  # in Table 2: "darts+none" where DARTS and SGAS are as their authors have them
    alpha: str | None = None  # of select.py: "fixed" does not train α in tuning


CONTROL, UNTRAINED = "DARTS+random", "DARTS+PT (untrained)"
METHODS = {
    "DARTS": Method("darts", "alpha bilevel", "3.00 ± 0.14, 3.3 M, 0.4 days", "magnitude", False, "darts+none"),
    "DARTS+PT": Method("darts-pt", "alpha bilevel", "2.61 ± 0.08, best 2.48, 3.0 M, 0.8 days"),
    "DARTS+PT-Mag": Method("darts-pt-mag", "alpha bilevel", "2.85", "magnitude"),  # Sec. 6.2
    "DARTS+PT-Mag (frozen α)": Method("darts-pt-mag-frozen", "alpha bilevel", "-", "magnitude", alpha="fixed"),
    "DARTS+PT (fix α)": Method("darts-pt-fixed", "alpha fixed", "2.87"),  # Table 4
    "SDARTS-RS": Method("sdarts-rs", "noise uniform", "2.67 ± 0.03, 3.4 M, 0.4 days", "magnitude", tuned=False),
    "SDARTS-RS+PT": Method("sdarts-rs-pt", "noise uniform", "2.54 ± 0.10, best 2.44, 3.3 M, 0.8 days"),
    "SGAS": Method("sgas", "sgas magnitude", "2.66 ± 0.24, 3.7 M, 0.25 days", "magnitude", False, "darts+none"),
    "SGAS+PT": Method(
        "sgas-pt", "sgas perturbation", "2.56 ± 0.10, best 2.46, 3.9 M, 0.29 days", tuned=False, space="darts+none"
    ),
    # Controls, not of the paper: one chooses by the seed alone, which tuning would not change; one has no search
    CONTROL: Method("darts-random", "alpha bilevel", "-", "random", tuned=False),
    UNTRAINED: Method("darts-pt-untrained", "epochs 0", "-"),
}  # fmt: skip
TWO_SPACES = "DARTS, SGAS and SGAS+PT search darts+none, the others darts: there DARTS and DARTS+PT share no supernet."
MAIN_METHODS = ("DARTS", "DARTS+PT", "DARTS+PT (fix α)")  # in Tables 3 and 4, Fig. 4 and 8

# ==== A study: many runs in one folder ==============================================================================

# The options that all results in a folder share
SETTING = ("dataset", "data", "preset", "epochs", "batch_size", "channels", "layers", "image_size", "limit", "lr")
SETTING += ("alpha_lr", "tune_epochs", "metric", "retrain")


class Case(NamedTuple):
    """One search and one selection. epoch: the snapshot to select from; None is the supernet at the end."""

    space: str
    method: str
    seed: int
    epoch: int | None = None


class Job(NamedTuple):
    """A command, the result that it writes, and the file of the study that it reads, if any."""

    save: Path
    command: list[str]
    source: Path | None = None

    def describe(self) -> str:
        """Returns the command line and the fingerprint of the source."""
        return f"python {shlex.join(self.command)}" + (f"  # {runs.fingerprint(self.source)}" if self.source else "")


class Study:
    """The results in a folder. Only one study at a time runs commands in a folder.

    SPACE-DATASET-SEARCH-SEED.pt is a supernet, SPACE-DATASET-METHOD-SEED.json the architecture that a method selects
    from it. Beside the architecture, .network.pt is its network and .imagenet.pt its network on ImageNet. The .out
    files have what the commands print. commands.json has the setting and the command behind each result.
    """

    def __init__(self, args: Namespace):
        self.args, self.folder, self.ledger = args, args.folder, args.folder / "commands.json"
        self.keep_every, self.benchmark = None, getattr(args, "benchmark", None)
        self.jobs = args.jobs or (2 if getattr(args, "dataset", None) in (None, "digits") else 1)
        self.setting, self.commands = self._load()
        if "dataset" in args:
            self._choose_setting()

    def _load(self) -> tuple[dict[str, str], dict[str, str]]:
        """Returns the setting and the commands in commands.json; both are empty in a new folder."""
        with runs.blame(self.ledger, "is no list of commands"):
            content = json.loads(self.ledger.read_text("utf-8")) if self.ledger.exists() else {}
            return dict(content.get("setting", {})), dict(content.get("commands", {}))

    def _choose_setting(self) -> None:
        """Takes the options given or, without --run, those of the folder. Raises UserError if the folder has others."""
        given = {name: getattr(self.args, name, None) for name in SETTING}
        setting = {"dataset": "digits"} | ({} if getattr(self.args, "run", True) else self.setting)
        setting |= {name: str(value) for name, value in given.items() if value is not None}
        setting["preset"], preset = runs.get_preset("search", setting.get("preset"), setting["dataset"], "nb201")
        self.keep_every = self.args.keep_every
        if "benchmark" in self.args:
            self.epochs = int(setting.get("epochs", preset["epochs"]))
            self.keep_every = self.keep_every or max(1, self.epochs // 4)
        # Networks may be retrained with other options
        if self.setting and setting | {"retrain": ""} != self.setting | {"retrain": ""}:
            there, here = (shlex.join(list_options(each)) for each in (self.setting, setting))
            raise runs.UserError(f"{self.folder} has results of {there}, not of {here}: give another --folder")
        self.setting, self.dataset = setting, Path(setting["dataset"]).absolute().name
        chosen = self.args.method or self.args.methods
        methods = [name for name in METHODS if name in chosen or "all" in chosen]
        choices = map(dict.fromkeys, (self.args.space, methods, self.args.seeds))
        self.cases = [
            Case(space or METHODS[name].space, name, seed) for space, name, seed in itertools.product(*choices)
        ]

    def plan(self, case: Case) -> tuple[Job, Job, Job]:
        """Returns the search, the selection and the retraining of a case."""
        method, name = METHODS[case.method], f"{case.space}-{self.dataset}"
        trained = self.folder / f"{name}-{method.search.replace(' ', '-')}-{case.seed}.pt"
        supernet = runs.name_snapshot(trained, case.epoch) if case.epoch else trained
        end = f"-epoch{case.epoch:03d}.json" if case.epoch else ".json"
        genotype = self.folder / f"{name}-{method.slug}-{case.seed}{end}"
        option, value = method.search.split()
        search = {option: value, "space": case.space, **self.setting, "seed": case.seed, "keep_every": self.keep_every}
        search[option] = value  # and not what the setting has
        tuning, metric, others = (search.pop(name, None) for name in ("tune_epochs", "metric", "retrain"))
        select = {"ckpt": supernet, "criterion": method.criterion, "tune_epochs": tuning if method.tuned else 0}
        select |= {"seed": case.seed, "benchmark": self.benchmark, "alpha": method.alpha, "metric": metric}
        # By default with the data set, the preset and the image size of the search
        retrain = [*list_options({"arch": genotype, "seed": case.seed}), *shlex.split(others or "")]
        return (
            Job(trained, ["train_search.py", *list_options(search)]),
            Job(genotype, ["select.py", *list_options(select)], supernet),
            Job(genotype.with_suffix(".network.pt"), ["retrain.py", *retrain], genotype),
        )

    def announce(self, cases: Iterable[Case]) -> None:
        """Says how many searches and selections these cases still need."""
        missing = {job.save: job.command[0] for case in cases for job in self.plan(case)[:2] if self.is_missing(job)}
        searches, selections = (list(missing.values()).count(script) for script in ("train_search.py", "select.py"))
        if missing:
            print(f"to run: {searches} searches and {selections} selections, {self.jobs} at a time", flush=True)

    def is_missing(self, job: Job) -> bool:
        """Returns whether the result does not exist, or comes from another command or another source."""
        if not job.save.exists() or (job.source and not job.source.exists()):
            return True
        return name_words(self.commands.get(job.save.name, "")) != name_words(job.describe())

    def run(self, jobs: Iterable[Job]) -> None:
        """Runs each command whose result is missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with runs.lock(self.ledger):
            _, self.commands = self._load()
            self._run_together(list({job.save: job for job in jobs if self.is_missing(job)}.values()))

    def _run_together(self, jobs: list[Job]) -> None:
        """Runs the commands, some at a time. If one fails, waits for those that run and raises its UserError."""
        waiting, running = list(jobs), {}
        with tqdm(total=len(jobs), unit="run", disable=not jobs) as bar:
            try:
                while waiting or running:
                    while waiting and len(running) < self.jobs:
                        job = waiting.pop(0)
                        bar.write(f"python {shlex.join(job.command)}", file=sys.stdout)
                        running[self._start(job)] = job
                    time.sleep(0.05)
                    for child in [child for child in running if child.poll() is not None]:
                        bar.write(self._finish(running.pop(child), child.returncode), file=sys.stdout)
                        bar.update()
            except runs.UserError as error:
                for child, job in running.items():
                    bar.write(f"{error}; waiting for {job.save}", file=sys.stderr)
                    child.wait()
                raise
            finally:
                for child in running:  # after a signal
                    child.terminate()
                for child in running:
                    child.wait()

    def _start(self, job: Job) -> subprocess.Popen:
        """Starts a command. It prints to a file, and if others run beside it, its progress and errors too."""
        threads = self.args.threads or 1  # by default one, so that figures do not depend on the number of cores
        options = list_options({"device": self.args.device, "threads": threads, "save": job.save})
        options += ["--resume"] + ["--deterministic"] * self.args.deterministic
        line = [sys.executable, str(Path(__file__).resolve().with_name(job.command[0])), *job.command[1:], *options]
        errors = subprocess.STDOUT if self.jobs > 1 else None
        with job.save.with_suffix(".out").open("w") as output:  # a new session: Ctrl-C reaches this process alone
            return subprocess.Popen(line, stdout=output, stderr=errors, start_new_session=True)

    def _finish(self, job: Job, status: int) -> str:
        """Records a command that has ended and returns the last line that it printed. Raises UserError if it failed."""
        lines = job.save.with_suffix(".out").read_text(errors="replace").splitlines() or [""]
        if status:
            errors = [line for line in lines if ": error: " in line] or [f"ended with status {status}"]
            raise runs.UserError(f"python {shlex.join(job.command)}: {errors[-1]}")
        self.commands[job.save.name] = job.describe()
        runs.write_json(self.ledger, {"setting": self.setting, "commands": self.commands})
        return lines[-1]


def name_words(command: str) -> list[str]:
    """Returns the words of a command without folders: a study that has moved is the same."""
    return [Path(word).name for word in shlex.split(command)]


def list_options(values: Record) -> list[str]:
    """Returns these options as on a command line, without those that are None."""
    given = [(f"--{name.replace('_', '-')}", str(value)) for name, value in values.items() if value is not None]
    return [text for pair in given for text in pair]


# ==== Retrained networks: Tables 2, 3 and 5 =========================================================================

# Test error in percent of MAIN_METHODS on S1-S4
TABLE_3 = {
    "cifar10": ((3.84, 3.50, 2.86), (4.85, 2.79, 2.59), (3.34, 2.49, 2.52), (7.20, 2.64, 2.58)),
    "cifar100": ((29.46, 24.48, 24.40), (26.05, 23.16, 23.30), (28.90, 22.03, 21.94), (22.85, 20.80, 20.66)),
    "svhn": ((4.58, 2.62, 2.39), (3.53, 2.53, 2.32), (3.41, 2.42, 2.32), (3.05, 2.42, 2.39)),
}
TABLE_5 = {"DARTS": "26.7, top-5 8.7, 4.7 M", "DARTS+PT": "25.5, top-5 8.0, 4.6 M"}


def table2(args: Namespace) -> None:
    """Prints Table 2, each method on its DARTS space, and Table 5, the architectures on ImageNet."""
    study = Study(args)
    results = make_networks(study)
    imagenet = load_networks(study, study.cases, ".imagenet.pt")
    paper = {name: method.paper for name, method in METHODS.items()}
    print_networks("Table 2: test error (%), paper on CIFAR-10", study, results, paper)
    print_networks("Table 5: test error (%) on ImageNet", study, imagenet, TABLE_5)
    print(f"\n{TWO_SPACES}")
    if not imagenet:
        genotype = study.plan(Case(*map(results[0].get, Case._fields)))[1].save
        save = genotype.with_suffix(".imagenet.pt")
        print(f"no network yet: python retrain.py --arch {genotype} --dataset imagenet --data DIR --save {save}")
    write_results(args.folder / "table2.json", setting=study.setting, results=results, imagenet=imagenet)


def table3(args: Namespace) -> None:
    """Prints Table 3: DARTS, DARTS+PT and DARTS+PT (fix α) on S1-S4."""
    study = Study(args)
    results, comparisons = make_networks(study), {}
    for space in dict.fromkeys(args.space):
        paper = TABLE_3[study.dataset][int(space[1]) - 1] if study.dataset in TABLE_3 else ()
        own = [each for each in results if each["space"] == space]
        print_networks(f"Table 3: test error (%) on {space}", study, own, dict(zip(MAIN_METHODS, paper, strict=False)))
        comparisons[space] = compare_methods(sort_errors((each, each["test_error"]) for each in own))
    write_results(args.folder / "table3.json", setting=study.setting, results=results, comparisons=comparisons)


def sort_errors(results: Iterable[tuple[Record, float]]) -> dict[str, dict[int, float]]:
    """Returns the errors of results by method and seed."""
    by_seed: dict[str, dict[int, float]] = {}
    for result, error in results:
        by_seed.setdefault(result["method"], {})[result["seed"]] = error
    return by_seed


def make_networks(study: Study) -> list[Record]:
    """Runs what is missing if --run is given. Returns the results; raises UserError if there are none."""
    for stage in range(3 if study.args.run else 0):
        study.run(study.plan(case)[stage] for case in study.cases)
    results = load_networks(study, study.cases)
    if not results:
        raise runs.UserError(f"{study.folder} has no such networks with these seeds; --run makes them")
    return results


def load_networks(study: Study, cases: Iterable[Case], suffix: str = ".network.pt") -> list[Record]:
    """Returns the finished networks: errors in percent, parameters, seconds. Raises UserError if a file is no such, or
    does not belong to the study."""
    results = []
    for case in cases:
        _, selection, retraining = study.plan(case)
        path = selection.save.with_suffix(suffix)
        network = runs.load_checkpoint(path, "network") if path.exists() else {"finished": False}
        if network["finished"]:
            belongs = path == retraining.save and not study.is_missing(retraining)
            if suffix == ".imagenet.pt":  # which the user trains
                belongs = network["settings"]["genotype"] == str(runs.load_genotype(selection.save)[0])
            if not belongs:
                raise runs.UserError(f"{path} was not made from {selection.save} as {study.ledger} says: make it anew")
            with runs.blame(path, "is no network of a selected architecture"):
                result = {"parameters": network["parameters"], "seconds": network["origin"]["seconds"]}
                result |= {name: network["records"][-1].get(name) for name in ("test_error", "test_error_top5")}
            results.append(case._asdict() | result)
    return results


def print_networks(title: str, study: Study, results: Sequence[Record], paper: dict[str, Any]) -> None:
    """Prints the results of networks beside those of the paper, by method."""
    rows = []
    for name, group in itertools.groupby(results, lambda each: each["method"]):
        own = list(group)
        error, by_seed = summarise([each["test_error"] for each in own])
        top5, _ = summarise([each["test_error_top5"] for each in own if each["test_error_top5"]])
        size = mean(each["parameters"] for each in own) / 1e6
        hours = mean(sum(each["seconds"].values()) for each in own) / 3600
        rows.append([name, paper.get(name, "-"), error, by_seed, top5, f"{size:.3f}", f"{hours:.2f}"])
    print_table(title, study, ["", "paper", "here", "by seed", "top-5", "M parameters", "hours of search"], rows)


def summarise(values: Sequence[float]) -> tuple[str, str]:
    """Returns mean ± standard deviation, and all values."""
    if not values:
        return "-", "-"
    deviation = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{mean(values):.2f}{deviation}", ", ".join(f"{value:.2f}" for value in values)


def print_table(title: str, study: Study | None, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints a table, with the setting of a study in its title."""
    here = f"; here: {shlex.join(list_options(study.setting))}" if study else ""
    runs.print_table(title + here, header, rows)


def write_results(path: Path, **numbers: Any) -> None:
    """Writes the numbers of a table or a figure as JSON."""
    runs.write_json(path, numbers)
    print(f"\nwritten to {path}")


# ==== NAS-Bench-201: Table 4, Fig. 4 and 8; ablations: Fig. 6 and 9 =================================================

TABLE_4 = {"DARTS": "45.70", "DARTS+PT": "11.89", "DARTS+PT (fix α)": "6.20"}  # test error in percent on CIFAR-10
WITHOUT_NONE, CONVOLUTIONS = "a random cell without `none`", "always the 3x3 convolution"  # rows without a search
COMPARISONS = {  # each method with these
    "DARTS": (CONTROL, WITHOUT_NONE),
    "DARTS+PT-Mag": ("DARTS", WITHOUT_NONE),
    "DARTS+PT": ("DARTS", "DARTS+PT-Mag", "DARTS+PT-Mag (frozen α)", UNTRAINED, CONTROL, WITHOUT_NONE, CONVOLUTIONS),
    UNTRAINED: (WITHOUT_NONE,),
    "DARTS+PT (fix α)": ("DARTS+PT", UNTRAINED, CONTROL, CONVOLUTIONS),
    "SDARTS-RS+PT": ("SDARTS-RS",),
    "SGAS+PT": ("SGAS",),
}


def table4(args: Namespace) -> None:
    """Prints and draws the part of Table 4 on NAS-Bench-201: what each method finds, by its true test error, and which
    methods differ."""
    benchmark = runs.load_benchmark(args.benchmark)
    study = Study(args)
    found = make_architectures(study, study.cases, benchmark)
    everything = {arch: errors["cifar10"] for arch, errors in benchmark.items()}
    without_none = [error for arch, error in everything.items() if "none" not in arch]
    by_seed = sort_errors((each, each["test_error"]["cifar10"]) for each in found)
    rows = []
    for name, errors in by_seed.items():
        average, each = summarise(list(errors.values()))
        rows.append([name, TABLE_4.get(name, "-"), average, f"{median(errors.values()):.2f}", each])
    for name, errors in (("a random cell", list(everything.values())), (WITHOUT_NONE, without_none)):
        rows.append([name, "-", summarise(errors)[0], f"{median(errors):.2f}", f"best {min(errors):.2f}"])
    convolutions = everything[str(Arch(("nor_conv_3x3",) * 6))]
    rows.append([CONVOLUTIONS, "-", f"{convolutions:.2f}", "-", "-"])
    title = f"Table 4: true test error (%) on CIFAR-10, seeds {' '.join(map(str, args.seeds))}"
    print_table(title, study, ["", "paper", "here", "median", "by seed"], rows)
    known = {WITHOUT_NONE: mean(without_none), CONVOLUTIONS: convolutions}
    runs.save_picture(args.folder / "table4.png", lambda figure: plots.draw_errors(figure, by_seed, known))
    comparisons = compare_methods(by_seed | {name: dict.fromkeys(args.seeds, each) for name, each in known.items()})
    write_results(
        args.folder / "table4.json", setting=study.setting, nb201=found, without_search=known, comparisons=comparisons
    )


def compare_methods(by_seed: dict[str, dict[int, float]]) -> list[Record]:
    """Compares the errors of the methods in COMPARISONS, by method and seed, prints and returns what it finds. The
    verdict follows the interval, from ten seeds on: with three, a quarter of such intervals would find a difference
    where there is none."""
    comparisons = []
    for name, other in ((name, other) for name, others in COMPARISONS.items() for other in others):
        own, theirs = by_seed.get(name, {}), by_seed.get(other, {})
        differences = [own[seed] - theirs[seed] for seed in own if seed in theirs]
        if len(differences) > 1:
            low, high = plots.bootstrap(differences)
            verdict = "better" if high < 0 else "worse" if low > 0 else "no difference that these seeds could show"
            verdict = verdict if len(differences) >= 10 else "too few seeds"
            lower = f"{sum(each < 0 for each in differences)} of {len(differences)} seeds"
            comparison = {"method": name, "with": other, "differences": differences, "interval": [low, high]}
            comparisons.append(comparison | {"lower": lower, "verdict": verdict})
    rows = [
        [each["method"], each["with"], plots.format_mean(each["differences"]), each["lower"], each["verdict"]]
        for each in comparisons
    ]
    if rows:
        title = "Mean differences of the error, paired by seed, with 95% intervals"
        print_table(title, None, ["", "less that of", "difference", "lower on", "verdict"], rows)
    return comparisons


def make_architectures(study: Study, cases: Sequence[Case], benchmark: runs.Benchmark) -> list[Record]:
    """Runs what is missing, searches first. Returns the true test errors of the architectures, in percent."""
    study.announce(cases)
    study.run(study.plan(case)[0] for case in cases)
    jobs = [study.plan(case)[1] for case in cases]
    for job in jobs:
        if not job.source.exists():
            raise runs.UserError(f"the search kept no {job.source}: give its --keep-every, or another --folder")
    study.run(jobs)
    errors = [benchmark[str(runs.load_genotype(job.save)[0])] for job in jobs]
    return [case._asdict() | {"test_error": each} for case, each in zip(cases, errors, strict=True)]


def fig4(args: Namespace) -> None:
    """Draws Fig. 4 and 8: the true test error on NAS-Bench-201 over the epochs of the search."""
    benchmark = runs.load_benchmark(args.benchmark)
    study = Study(args)
    every = range(study.keep_every, study.epochs, study.keep_every)
    kept = [case._replace(epoch=epoch) for case in study.cases if case.method != UNTRAINED for epoch in every]
    points = make_architectures(study, [*kept, *study.cases], benchmark)
    for point in points:
        last = 0 if point["method"] == UNTRAINED else study.epochs
        point["epoch"] = point["epoch"] or last
    save_curves(args.folder / "fig4.png", points, "epoch", "test_error", benchmark)


def save_curves(picture: Path, points: list[Record], x: str, y: str, benchmark: runs.Benchmark) -> None:
    """Prints and draws curves of `y` over `x`, with a table and a panel for each data set or space, by method.
    Writes the points as JSON, with the mean of all architectures."""
    methods = dict.fromkeys(point["method"] for point in points)
    names = dict.fromkeys(name for point in points for name in point[y])
    curves: dict[str, plots.Curves] = {name: {method: {} for method in methods} for name in names}
    for point in points:
        for name, value in point[y].items():
            curves[name][point["method"]].setdefault(point[x], []).append(value)
    for name, panel in curves.items():
        at = sorted(set().union(*panel.values()))
        rows = [[each, *(summarise(curve.get(each, []))[0] for curve in panel.values())] for each in at]
        print_table(f"{plots.AXES[y]}, {name}", None, [plots.AXES[x], *methods], rows)
    averages = {name: mean(errors[name] for errors in benchmark.values()) if benchmark else None for name in curves}
    runs.save_picture(picture, lambda figure: plots.draw_trajectories(figure, curves, averages, x, y))
    write_results(picture.with_suffix(".json"), points=points, average=averages)


def fig6(args: Namespace) -> None:
    """Draws Fig. 6: validation accuracy in the rounds of selections by different criteria, from their logs."""
    if args.save.suffix != ".png" or args.save.with_suffix(".pt").exists():
        raise runs.UserError(f"--save {args.save}: a file name that ends in .png and is not that of a run is needed")
    points, seen = [], set()
    for log in args.logs:
        with runs.blame(log, "is not the log of a selection"):
            selection = runs.load_checkpoint(log.with_suffix(".pt"), "selection")  # its records are those of the log
            space, name, seed = (selection["settings"][key] for key in ("space", "criterion", "seed"))
            if (name, seed) in seen:
                raise runs.UserError(f"{log} is another selection by {name} with seed {seed}")
            seen.add((name, seed))
            for record in selection["records"]:
                accuracy = {space: record["valid_accuracy"]}
                points.append({"method": name, "seed": seed, "round": record["round"], "valid_accuracy": accuracy})
    if not points:
        raise runs.UserError("nothing was selected in these logs")
    runs.move_aside(args.save, args.save.with_suffix(".json"))
    save_curves(args.save, points, "round", "valid_accuracy", {})


def fig9(args: Namespace) -> None:
    """Draws Fig. 9: how the epochs of tuning matter, by true error on NAS-Bench-201, else by validation accuracy; and
    what they recover in a round."""
    checkpoints = [runs.load_search(supernet) for supernet in args.ckpt]
    searches = [checkpoint["settings"] for checkpoint in checkpoints]
    nb201 = all(search["space"] == "nb201" for search in searches)
    benchmark = runs.load_benchmark(args.benchmark) if nb201 else {}
    study = Study(args)
    jobs, points = [], []
    for supernet, search, checkpoint in zip(args.ckpt, searches, checkpoints, strict=True):
        with runs.blame(supernet, "is no supernet"):
            trained = "α " + ", ".join(search[name] for name in ("alpha", "noise", "sgas") if search[name] != "none")
            trained += f", {len(checkpoint['records'])} epochs"
        for epochs in dict.fromkeys(args.tunings):
            options = {"ckpt": supernet, "tune_epochs": epochs, "seed": search["seed"], "benchmark": args.benchmark}
            save = args.folder / f"{supernet.stem}.tune{epochs}.json"
            jobs.append(Job(save, ["select.py", *list_options(options)], supernet))
            points.append({"method": trained, "seed": search["seed"], "tune_epochs": epochs})
    if len({job.save for job in jobs}) < len(jobs):
        raise runs.UserError("--ckpt: two supernets have the same file name")
    study.run(jobs)
    for job, point in zip(jobs, points, strict=True):
        architecture, found = runs.load_genotype(job.save)
        accuracy = {"valid_accuracy": {found["space"]: found["valid_accuracy"]}}
        point |= {"test_error": benchmark[str(architecture)]} if benchmark else accuracy
        rounds = runs.load_checkpoint(job.save.with_suffix(".pt"), "selection")["records"]
        if not rounds:
            raise runs.UserError(f"{job.source}: the search decided all edges, and there is nothing to tune")
        gains = [each["valid_accuracy"] - each["discretised_accuracy"] for each in rounds]
        point["recovered"] = {found["space"]: mean(gains)}
    y = "test_error" if benchmark else "valid_accuracy"
    save_curves(args.folder / "fig9.png", points, "tune_epochs", y, benchmark)
    save_curves(args.folder / "fig9-recovered.png", points, "tune_epochs", "recovered", {})


# ==== Command line ==================================================================================================


def command(argv: Sequence[str] | None) -> None:
    study = runs.Parser(add_help=False)
    study.add_argument("--folder", type=Path, default=Path("results"), metavar="DIR", help="results by default")
    study.add_argument("--jobs", type=runs.whole(1), metavar="N", help="runs at a time; 2 on the digits, else 1")
    runs.add_machine_options(study)
    methods = runs.Parser(add_help=False, parents=[study])
    needed = "give it several times; by default what the table or figure needs"
    methods.add_argument("--method", action="append", choices=(*METHODS, "all"), help=needed)
    methods.add_argument("--seeds", nargs="+", type=runs.whole(0), default=[0, 1, 2], help="0 1 2 by default")
    methods.add_argument("--tune-epochs", type=runs.whole(0), metavar="N", help="after every round of decisions")
    runs.add_settings(methods, SelectionSettings, metric="what masks are judged by")
    methods.add_argument("--keep-every", type=runs.whole(1), metavar="N", help="snapshots; four by default on nb201")
    runs.add_data_options(methods)
    search = methods.add_argument_group("of the search")
    runs.add_training_options(search)
    runs.add_settings(search, SearchSettings, alpha_lr="learning rate of α")
    networks = runs.Parser(add_help=False, parents=[methods])
    networks.add_argument("--run", action="store_true", help="first run what is missing")
    networks.add_argument("--retrain", metavar="OPTIONS", help='of retrain.py, such as "--layers 8 --epochs 60"')
    nb201 = runs.Parser(add_help=False, parents=[methods])
    nb201.add_argument("--benchmark", type=Path, metavar="CSV", help="true accuracies; nb201.csv.gz by default")
    nb201.set_defaults(space=["nb201"])

    parser = runs.Parser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=runs.Parser)

    def add(function: Callable[[Namespace], None], *aliases: str, like: ArgumentParser) -> ArgumentParser:
        texts = {"help": function.__doc__, "description": function.__doc__}
        command = commands.add_parser(function.__name__, aliases=aliases, parents=[like], **texts)
        command.set_defaults(function=function)
        return command

    s1_to_s4 = ("s1", "s2", "s3", "s4")
    own = [name for name, method in METHODS.items() if method.paper != "-"]
    add(table2, "table5", like=networks).set_defaults(methods=own, space=[None])  # each method has its own
    command = add(table3, like=networks)
    command.add_argument("--space", nargs="+", choices=s1_to_s4, default=s1_to_s4)
    command.set_defaults(methods=MAIN_METHODS)
    add(table4, like=nb201).set_defaults(methods=(*MAIN_METHODS, UNTRAINED))
    add(fig4, "fig8", like=nb201).set_defaults(methods=MAIN_METHODS)
    command = add(fig6, like=runs.Parser(add_help=False))
    command.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="genotype.jsonl, with genotype.pt beside it")
    command.add_argument("--save", type=runs.parse_file, default="fig6.png", metavar="FILE", help="fig6.png by default")
    command = add(fig9, like=study)
    command.add_argument("--ckpt", required=True, nargs="+", type=Path, metavar="FILE", help="supernets")
    command.add_argument("--benchmark", type=Path, metavar="CSV", help="true accuracies on NAS-Bench-201")
    epochs = {"nargs": "+", "type": runs.whole(0), "default": [0, 1, 2, 5, 10], "metavar": "N"}
    command.add_argument("--tune-epochs", dest="tunings", help="0 1 2 5 10 by default", **epochs)
    args = parser.parse_args(argv)
    if runs.several():
        raise runs.UserError("reproduce.py starts commands of its own: run it without torchrun")
    args.function(args)


def main(argv: Sequence[str] | None = None) -> int:
    return runs.run_command("reproduce.py", command, argv)


if __name__ == "__main__":
    sys.exit(main())
