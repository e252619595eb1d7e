"""Select an architecture from a trained supernet (Algorithms 1 and 2 of the paper).

    python select.py --ckpt supernet.pt                                            # by perturbation, the paper's way
    python select.py --ckpt supernet.pt --metric loss --tune-epochs 1
    python select.py --ckpt supernet.pt --criterion magnitude --tune-epochs 0      # what DARTS does
    python select.py --ckpt supernet.pt --benchmark nb201.csv                      # its true error on NAS-Bench-201

Writes genotype.json (for retrain.py), genotype.pt (the state, for --resume), genotype.jsonl and genotype.png.
"""

from __future__ import annotations

import sys

if __name__ == "select":
    # This file has the name of a module of the standard library and stands before it on the path of the scripts beside
    # it, so `selectors`, `subprocess` and every DataLoader worker import this file. Hand over the module they mean.
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec
    from pathlib import Path

    elsewhere = [path for path in sys.path if not Path(path, "select.py").exists()]  # nor another copy of this file
    spec = PathFinder.find_spec("select", elsewhere)
    sys.modules["select"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["select"])
else:
    from argparse import Namespace
    from collections.abc import Sequence
    from dataclasses import asdict

    import torch

    import plots
    import runs
    from data import data_folder, dataset_name, load_supernet_data
    from genotypes import SPACES, Arch
    from ptnas import CRITERIA, Computing, SearchSettings, Selection, SelectionSettings


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = runs.Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--ckpt", required=True, type=runs.Path, metavar="FILE", help="what train_search.py saved")
    parser.add_argument("--criterion", choices=tuple(CRITERIA), help="perturbation by default")
    parser.add_argument("--metric", choices=("accuracy", "loss"), help="what the criterion compares")
    parser.add_argument("--tune-epochs", type=runs.whole(0), metavar="N", help="after every round of decisions")
    parser.add_argument(
        "--tune", choices=("fixed", "converge"), help="converge: stop tuning once the supernet has converged again"
    )
    parser.add_argument("--benchmark", type=runs.Path, metavar="CSV", help="true accuracies on NAS-Bench-201")
    runs.add_run_options(parser, save="genotype.json", compiles=False)
    return parser.parse_args(argv)


def run(argv: Sequence[str] | None) -> None:
    args = parse(argv)
    checkpoint = runs.load_search(args.ckpt)
    trained = checkpoint["settings"]
    dataset = args.dataset or trained["dataset"]
    preset, values = runs.preset("select", args.preset or trained["preset"], dataset, trained["space"])
    values = runs.overridden(values, args, "criterion", "metric", "tune_epochs", "tune")
    how = SelectionSettings(**values, seed=args.seed)
    if how.criterion == "magnitude" and trained["alpha"] == "fixed":
        raise runs.UserError("--criterion magnitude ranks by α, which the search of this supernet kept at 0")
    if args.benchmark and trained["space"] != "nb201":
        raise runs.UserError(f"--benchmark belongs to the space nb201, and {args.ckpt} is of {trained['space']}")
    benchmark = runs.load_benchmark(args.benchmark) if args.benchmark else {}
    settings = {
        "space": trained["space"],
        "dataset": dataset_name(dataset),
        "data": data_folder(args.data) or trained["data"],
        "preset": preset,
        "supernet": runs.fingerprint(args.ckpt),
        **asdict(how),
    }
    if args.save.with_suffix(".pt").resolve() == args.ckpt.resolve():
        raise runs.UserError(f"--save {args.save}: its state would take the place of {args.ckpt}")
    device = runs.set_up(args)
    with runs.Run(args.save, "selection", settings, args.resume, args.checkpoint_minutes) as result:
        if not result.finished:
            select(result, checkpoint, how, benchmark, args, device)
    if not runs.speaks():  # nor reads what the first process has written
        return
    architecture, found = runs.load_genotype(args.save)
    if not found.keys() >= {"supernet_accuracy", "valid_accuracy"}:
        raise runs.UserError(f"{args.save} is not what was written; where it is missing, --resume writes it again")
    if benchmark:
        found["test_error"] = benchmark[str(architecture)]
        runs.write_json(args.save, found)
    print(
        f"genotype {args.save}: validation accuracy {found['valid_accuracy']:.2f}%, "
        f"before the selection {found['supernet_accuracy']:.2f}%{true_error(benchmark, architecture)}: {architecture}"
    )


def true_error(benchmark: dict[str, dict[str, float]], architecture: runs.Architecture) -> str:
    """In words, if there is a benchmark."""
    errors = benchmark.get(str(architecture), {})
    return ", true test error " + ", ".join(f"{e:.2f}% on {name}" for name, e in errors.items()) if errors else ""


def select(
    result: runs.Run, checkpoint: dict, how: SelectionSettings, benchmark: dict, args: Namespace, device: torch.device
) -> None:
    """Take what is left of the selection and write the genotype."""
    trained, settings = checkpoint["settings"], result.settings
    where = {name: settings[name] for name in ("dataset", "data")}
    data = load_supernet_data(checkpoint, args.ckpt, trained | where, device, args.workers)
    search, space = SearchSettings.of(trained), SPACES[trained["space"]]
    supernet = search.supernet(space, len(data.classes), data.channels).to(device)
    runs.load_state(supernet, checkpoint["state"]["bilevel"]["supernet"], args.ckpt)
    computing = runs.computing(args, device)
    supernet.skeleton.computing = Computing(**computing)
    train, valid = data.halves(trained["seed"])
    trained_for = checkpoint["records"][-1]["epoch"]
    selection = Selection(supernet, search, how, train, valid, trained_for)
    selection.decisions += checkpoint["state"].get("decisions") or []  # of SGAS

    runs.announce(settings | {"image_size": data.image_size, **runs.place(device), **computing})
    trained_on = selection.total * how.tune_epochs * search.passes * len(train)
    masks = sum(len(space.candidates(kind, edge)) for kind in space.cell_types for edge in supernet.undecided(kind))
    runs.warn_if_long(
        device, settings["preset"], lambda: runs.seconds_needed(supernet, data, trained_on, masks * len(valid))
    )
    title = f"{space.name}, {how.criterion}" + (f" by {how.metric}" if how.criterion != "magnitude" else "")
    if not selection.total:
        runs.note(f"note: all edges of {args.ckpt} were decided during the search; none is left to select")
        title = f"{space.name}, SGAS by {search.sgas}"

    def complete(records: list[dict]) -> None:
        found = supernet.genotype()
        written = {"arch": str(found)} if isinstance(found, Arch) else {"genotype": found.to_json(), "text": str(found)}
        runs.write_json(
            args.save,
            {
                "schema": runs.SCHEMA,
                **settings,
                "image_size": data.image_size,
                "channels": data.channels,
                "search": trained,
                "computing": runs.place(device) | computing,
                "supernet_accuracy": checkpoint["records"][-1]["valid_accuracy"],
                "valid_accuracy": records[-1]["valid_accuracy"] if records else selection.measure().accuracy,
                "seconds": {
                    name: round(sum(record["seconds"] for record in of), 3)
                    for name, of in (("search", checkpoint["records"]), ("selection", records))
                },
                **written,
                "decisions": selection.decisions,
            },
        )

    def draw(figure: runs.Figure, records: list[dict]) -> None:
        found = supernet.genotype() if result.finished else None
        plots.draw_selection(figure, records, title + true_error(benchmark, found).replace(", ", "\n", 1), found)

    result.loop(
        selection,
        "round",
        show=lambda record: f"validation accuracy {record['valid_accuracy']:.2f}%",
        draw=draw,
        extra={"images": [len(data.train), len(data.test)], "computing": runs.place(device) | computing},
        complete=complete,
    )


def main(argv: Sequence[str] | None = None) -> int:
    return runs.command("select.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
