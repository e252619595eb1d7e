"""Select an architecture from a trained supernet (Algorithms 1 and 2 of the paper).

    python select.py --ckpt supernet.pt                                            # by perturbation, the paper's way
    python select.py --ckpt supernet.pt --metric loss --tune-epochs 1
    python select.py --ckpt supernet.pt --criterion magnitude --tune-epochs 0      # what DARTS does
    python select.py --ckpt supernet.pt --criterion magnitude --alpha fixed        # PT-Mag, but α stays as it is

Writes genotype.json (for retrain.py), genotype.pt (the state, for --resume), genotype.jsonl and genotype.png.
On NAS-Bench-201 it looks up the true test error of what it found.
"""

from __future__ import annotations

import sys

if __name__ == "select":
    # This file has the name of a module of the standard library and comes before it on the path. So `selectors`,
    # `subprocess` and every DataLoader worker import this file. Hand over the module that they mean.
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    specs = [PathFinder.find_spec("select", [path]) for path in sys.path]
    spec = next(each for each in specs if each and each.origin and not each.origin.endswith("select.py"))  # nor a copy
    sys.modules["select"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["select"])
else:
    from argparse import Namespace
    from collections.abc import Sequence
    from dataclasses import asdict
    from pathlib import Path

    import plots
    import runs
    from data import Trained, load_supernet
    from genotypes import Arch
    from ptnas import Judge, SelectionSettings, plan_rounds, select


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = runs.Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--ckpt", required=True, type=Path, metavar="FILE", help="what train_search.py saved")
    runs.add_settings(
        parser, SelectionSettings, criterion="perturbation by default", metric="what the criterion compares",
        tune_epochs="epochs of tuning after each round of decisions",
        alpha="in tuning, train α (default), or keep it as the search left it",
    )  # fmt: skip
    parser.add_argument("--benchmark", type=Path, metavar="CSV", help="another table of true accuracies on nb201")
    runs.add_run_options(parser, save="genotype.json")
    return parser.parse_args(argv)


def command(argv: Sequence[str] | None) -> None:
    args = parse(argv)
    if args.save.with_suffix(".pt").resolve() == args.ckpt.resolve():
        better = args.save.with_stem(f"{args.save.stem}-genotype")
        raise runs.UserError(f"--save {args.save}: its state would overwrite {args.ckpt}; use --save {better}")
    checkpoint = runs.load_search(args.ckpt)
    search = checkpoint["settings"]
    dataset = args.dataset or search["dataset"]
    preset, standard = runs.get_preset("select", args.preset or search["preset"], dataset, search["space"])
    values = runs.override(standard, args, "criterion", "metric", "tune_epochs", "alpha")
    if search.get("alpha") == "fixed":
        if values.get("criterion") == "magnitude" or args.alpha == "bilevel":
            wish = "--alpha bilevel trains α" if args.alpha == "bilevel" else "--criterion magnitude ranks by α"
            raise runs.UserError(f"{wish}, and the search of this supernet kept α at 0")
        values["alpha"] = "fixed"
    settings = SelectionSettings.of(values | {"seed": args.seed})
    if args.benchmark and search["space"] != "nb201":
        raise runs.UserError(f"--benchmark is for the space nb201, and {args.ckpt} is of {search['space']}")
    benchmark = runs.load_benchmark(args.benchmark) if search["space"] == "nb201" else {}
    everything = {
        "space": search["space"],
        "dataset": dataset,
        "data": args.data or search["data"],
        "preset": preset,
        "no_flip": search["no_flip"],
        "supernet": runs.fingerprint(args.ckpt),
        "amp": args.amp,
        **asdict(settings),
    }
    device = runs.set_up(args)
    with runs.Run(args.save, "selection", everything, args.resume) as run:
        if not run.finished:
            what = f"selection on {search['space']}, preset {preset}, seed {args.seed}, on {device}"
            what += f", from {args.ckpt}, {len(checkpoint['classes'])} classes from {dataset}"
            runs.announce(what, asdict(SelectionSettings.of(standard)) | standard, values, args.save)
            runs.warn_if_long(device, preset)
            where = dataset, everything["data"]
            trained = load_supernet(args.ckpt, device, *where, args.workers, args.amp, args.low_memory)
            computing = runs.describe_machine(device)
            decide(run, trained, settings, computing, benchmark)
        if runs.speaks():
            report(args.save, benchmark)


def decide(
    run: runs.Run, trained: Trained, settings: SelectionSettings, computing: dict, benchmark: runs.Benchmark
) -> None:
    """Plays the rounds that are left and writes the genotype. computing: what is known of the machine."""
    trained.bilevel.start_tuning(settings.alpha)
    judge = Judge(trained.bilevel, settings, trained.train, trained.valid)
    before = trained.records[-1]["valid_accuracy"] if trained.records else judge.measure()[0].accuracy
    rounds = plan_rounds(judge.supernet, settings.seed)
    title = f"{judge.supernet.space.name}, {settings.criterion}"
    title += f" by {settings.metric}" if settings.criterion != "magnitude" else ""
    if not rounds:
        runs.note(f"note: the search decided all edges of {trained.path}; none is left to select")
        title = f"{judge.supernet.space.name}, SGAS by {trained.settings['sgas']}"
    run.begin({"images": trained.data.describe()["images"], "computing": computing}, trained.bilevel)
    for record in run.follow(select(judge, rounds, len(run.records)), len(rounds), "round"):
        run.keep()
        run.draw(lambda figure: plots.draw_selection(figure, run.records, title))
    found, records = judge.supernet.genotype(), trained.records + run.records
    accuracy = run.records[-1]["valid_accuracy"] if run.records else judge.measure()[0].accuracy
    seconds = {"search": trained.records, "selection": run.records}
    content = {
        "schema": runs.SCHEMA,
        **run.settings,
        **trained.data.describe(),
        "search": trained.settings,
        "computing": computing,
        "supernet_accuracy": before,
        "valid_accuracy": accuracy,
        "seconds": {name: round(sum(record["seconds"] for record in own), 3) for name, own in seconds.items()},
        **({"arch": str(found)} if isinstance(found, Arch) else {"genotype": found._asdict(), "text": str(found)}),
        "decisions": [made for record in records for made in record.get("decisions", ())],
    }
    if benchmark:
        content["test_error"] = benchmark[str(found)]
        errors = [each["cifar10"] for each in benchmark.values()]
        chance = f"a random architecture has {sum(errors) / len(errors):.2f}%, the best {min(errors):.2f}%"
        title += f"\ntrue test error on CIFAR-10: {benchmark[str(found)]['cifar10']:.2f}% ({chance})"
    runs.write_json(run.save, content)
    run.finish(lambda figure: plots.draw_selection(figure, run.records, title, found))


def report(save: Path, benchmark: runs.Benchmark) -> None:
    """Prints the result, on NAS-Bench-201 with its true errors."""
    architecture, found = runs.load_genotype(save)
    with runs.blame(save, "is not what was written; delete it, and --resume writes it again"):
        after, before = found["valid_accuracy"], found["supernet_accuracy"]
        accuracies = f"validation accuracy {after:.2f}%, before the selection {before:.2f}%"
    if benchmark:
        errors = benchmark[str(architecture)]
        accuracies += ", true test error " + ", ".join(f"{error:.2f}% on {name}" for name, error in errors.items())
    print(f"genotype {save}: {accuracies}: {architecture}")


def main(argv: Sequence[str] | None = None) -> int:
    return runs.run_command("select.py", command, argv)


if __name__ == "__main__":
    sys.exit(main())
