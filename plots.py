"""The pictures: of a search, inside a supernet (Sec. 3), of a selection, of cells, of a training, of many runs.

Each function draws records, as the commands log them, into an empty figure, from which `render` makes a PNG.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

try:  # a notebook's backend, which the commands that it starts may lack, would end this import
    backend = os.environ.pop("MPLBACKEND")
except KeyError:
    backend = None

try:
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib.style
except OSError:  # a read-only system
    sys.exit("error: no folder for temporary files can be written: name one in TMPDIR and in MPLCONFIGDIR")
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from genotypes import Arch, DiscreteCell, Genotype, Space, is_convolution

if backend is not None:  # for a program that draws pictures of its own
    os.environ["MPLBACKEND"] = backend
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = backend

warnings.filterwarnings("ignore", "Glyph .* missing")  # in the name of a folder

Curves = dict[str, dict[int, list[float]]]  # by method: the values of all seeds at each x

BLUE, ORANGE, RED, GREY = "#1f5fa8", "#e07b00", "#c1121f", "#777777"
Look = tuple[str, str, str]  # colour, marker, line: markers and lines tell curves apart in a grey print, too
# Red is α, orange perturbation, blue perturbation with α fixed at zero, in every picture.
LOOKS: dict[str, Look] = {
    **dict.fromkeys(("DARTS", "magnitude", "largest α"), (RED, "s", ":")),
    **dict.fromkeys(("DARTS+PT", "perturbation", "masks", "α bilevel"), (ORANGE, "^", "--")),
    **dict.fromkeys(("DARTS+PT (fix α)", "α fixed"), (BLUE, "o", "-")),
}
OTHER_LOOKS: tuple[Look, ...] = (
    ("#2a8c55", "v", "-."), ("#8a4fb5", "D", ":"), ("#0e8f9c", "P", "--"), ("#b8860b", "X", "-"), ("black", "*", "-."),
    ("#d4679c", "d", ":"), ("#6b4423", "p", "--"), (GREY, "h", "-"),
)  # fmt: skip
ALPHA, TRUTH = "largest α", "the truth"  # orders of operations in `analyze.py fig1`, beside masks and strength
AXES = {
    "epoch": "epoch of the search",
    "round": "round of the selection",
    "tune_epochs": "epochs of tuning per round",
    "test_error": "true test error (%)",
    "recovered": "accuracy recovered by tuning (points)",
    "valid_accuracy": "validation accuracy (%)",
}
CELL_NAMES = {"normal": "normal cell", "reduce": "reduction cell", "cell": "cell"}


def render(draw: Callable[[Figure], None]) -> bytes:
    """Returns a PNG of what `draw` draws into an empty figure, in matplotlib's own style, whatever the machine's is."""
    file = io.BytesIO()
    with matplotlib.style.context("default"):
        figure = Figure(layout="constrained")
        draw(figure)
        figure.savefig(file, format="png", dpi=120)
    return file.getvalue()


def escape_name(name: str) -> str:
    """Returns a name that matplotlib can print: dollars would begin a formula, and file names may be no valid text."""
    return name.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")


def bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """Returns the 95% interval of the mean of values, one per seed: percentiles of the means of 10,000 draws with
    replacement (Efron, 1979). It is too narrow: with 15 normal values it misses the true mean 8 times in 100, with
    five 17 times, with three 24 times."""
    draws = np.random.default_rng(0).choice(np.array(values), (10_000, len(values)))
    low, high = np.percentile(draws.mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def format_mean(values: Sequence[float | None]) -> str:
    """Returns the mean of those that are numbers as text, with its interval if they are several."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "-"
    interval = " [{:.2f}, {:.2f}]".format(*bootstrap(numbers)) if len(numbers) > 1 else ""
    return f"{np.mean(numbers):.2f}{interval}"


def choose_looks(names: Sequence[str]) -> dict[str, Look]:
    """Returns how each curve looks: as LOOKS says, but once only, the others in their order."""
    others, looks = itertools.cycle(OTHER_LOOKS), {}
    for name in names:
        own = LOOKS.get(name.partition(",")[0])
        looks[name] = own if own and own not in looks.values() else next(others)
    return looks


def draw_search(figure: Figure, records: list[dict], space: Space) -> None:
    """Draws validation accuracy and mean(α_skip - α_conv), softmaxed, the two quantities of Fig. 3, per epoch. Below
    them it draws softmax(α) of every edge after the last epoch, white where it is uniform: a black frame is around the
    operation that α would choose now, a red one around what SGAS decided."""
    count = len(space.cell_types)
    figure.set_size_inches(9, 4 + 2 * count)
    top, *maps = figure.subplots(1 + count, 1, height_ratios=[2] + [1] * count)
    epochs = [record["epoch"] for record in records]
    top.plot(epochs, [record["valid_accuracy"] for record in records], color=BLUE, marker="o", markersize=3)
    top.set_xlabel("epoch")
    top.set_ylabel("validation accuracy (%)", color=BLUE)
    top.set_title(f"supernet on {space.name}: {records[-1]['valid_accuracy']:.2f}% after {epochs[-1]} epochs")
    top.xaxis.get_major_locator().set_params(integer=True)
    gaps = [record["skip_gap"] for record in records]
    if gaps[-1] is not None:
        right = top.twinx()
        right.plot(epochs, gaps, color=ORANGE, linestyle="--", marker="s", markersize=3)
        right.axhline(0, color=ORANGE, linewidth=0.6)
        right.set_ylabel("mean(α_skip − α_conv), softmaxed", color=ORANGE)
    edges = [f"{source}→{node}" for source, node in space.edges]
    decisions = [decision for record in records for decision in record.get("decisions", ())]
    for axes, (cell_type, rows) in zip(maps, records[-1]["weights"].items(), strict=True):
        names = space.operations[cell_type]
        _draw_weights(axes, rows, names, edges)
        chosen = [max(space.candidates(cell_type, edge), key=row.__getitem__) for edge, row in enumerate(rows)]
        fixed = all(len(set(row)) == 1 for row in rows)
        for edge, operation in enumerate(chosen if not fixed else ()):
            _frame(axes, edge, operation, "black")
        for decision in decisions:
            if decision["cell"] == cell_type:
                _mark_decision(axes, decision, space, cell_type)
        title = f"softmax(α), {CELL_NAMES[cell_type]}"
        if not fixed and any("skip_connect" in each for each in names):
            skips = sum(each[operation] == "skip_connect" for each, operation in zip(names, chosen, strict=True))
            title += f": α would choose the skip connection on {skips} of {len(edges)} edges"
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("edge (input node→output node)", fontsize=8)


def _draw_weights(axes: Axes, rows: list[list[float]], names: Sequence[Sequence[str]], edges: Sequence[str]) -> None:
    """Draws softmax(α) as a heat map with one column per edge. Where edges have different operations (S1), each field
    shows the name of its operation."""
    same = len(set(names)) == 1
    weights, uniform = np.array(rows).T, 1 / len(rows[0])
    norm = CenteredNorm(uniform, max(abs(weights - uniform).max(), 0.1 * uniform))
    image = axes.imshow(weights, aspect="auto", norm=norm, cmap="PuOr_r")
    axes.figure.colorbar(image, ax=axes, pad=0.01)
    axes.set_xticks(range(len(edges)), edges, fontsize=8)
    axes.set_yticks(range(len(rows[0])), names[0] if same else [f"operation {n + 1}" for n in range(len(rows[0]))])
    axes.tick_params(axis="y", labelsize=8)
    for edge, row in enumerate(rows):
        for operation, weight in enumerate(row):
            name = "" if same else names[edge][operation].replace("_", "\n", 1) + "\n"
            colour = "white" if abs(norm(weight) - 0.5) > 0.38 else "black"
            axes.text(edge, operation, f"{name}{weight:.3f}", ha="center", va="center", fontsize=5.5, color=colour)


def _frame(axes: Axes, edge: int, operation: int, colour: str) -> None:
    """Frames a field of the heat map."""
    axes.add_patch(Rectangle((edge - 0.46, operation - 0.44), 0.92, 0.88, fill=False, edgecolor=colour, linewidth=2))


def _mark_decision(axes: Axes, decision: dict, space: Space, cell_type: str) -> None:
    """Frames the operation that SGAS chose for an edge, or strikes through the input edges that a node lost."""
    if "edge" in decision:
        edge = space.edges.index(tuple(decision["edge"]))
        operation = space.operations[cell_type][edge].index(decision["operation"])
        _frame(axes, edge, operation, RED)
    else:
        for edge in space.into(decision["node"]):
            if space.edges[edge][0] not in decision["inputs"]:
                axes.axvline(edge, color=RED, linewidth=1, linestyle=":")


def draw_ranks(figure: Figure, records: list[dict], rows: list[dict], metric: str, strength: str) -> None:
    """Draws Fig. 1 and 7, one panel per edge, of twelve edges at most: the order of its operations by α, by masks, by
    `strength`, and by the truth if it is known. The strongest is on top; equals share a place. metric: "accuracy" or
    "loss"."""
    shown = records[:12]
    columns = min(3, len(shown))
    figure.set_size_inches(0.6 + 3.9 * columns, 0.6 + 3 * -(-len(shown) // columns))
    panels = figure.subplots(-(-len(shown) // columns), columns, squeeze=False).ravel()
    several = len({record["supernet"] for record in records}) > 1
    ways = [way for way in (ALPHA, f"masks, by {metric}", strength, TRUTH) if way in records[0]["columns"]]
    xs, last = range(len(ways)), len(ways) - 1
    for axes, record in zip(panels, shown, strict=False):
        places = [record["columns"][way]["places"] for way in ways]
        for number, name in enumerate(record["operations"]):
            colour = f"C{number}"
            axes.plot(xs, [column[number] for column in places], color=colour, marker="o")
            axes.text(last + 0.08, places[last][number], name, color=colour, fontsize=8, va="center")
        axes.set_xticks(xs, [way.replace(", ", "\n").replace(" of", "\nof") for way in ways], fontsize=8)
        axes.set_xlim(-0.2, last + 1.1)
        axes.set_yticks(range(len(places[0])), range(len(places[0]), 0, -1))
        title = f"{escape_name(Path(record['supernet']).stem)}\n" if several else ""
        title += f"{CELL_NAMES[record['cell']]}, edge {record['edge'][0]}→{record['edge'][1]}"
        axes.set_title(title, fontsize=9.5)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(shown) :]:
        axes.axis("off")
    figure.supylabel("place", fontsize=10)
    title = f"the order of the operations, the strongest on top: {len(shown)} of {len(records)} edges"
    figure.suptitle(title, fontsize=11)


def draw_agreement(figure: Figure, records: list[dict], rows: list[dict], metric: str, strength: str) -> None:
    """Draws over the epochs of the search how well α, masks and `strength` rank operations: the mean rank correlation
    with the truth, or with strength, with its 95% interval, and a point per supernet. rows: the summary."""
    figure.set_size_inches(6, 4.2)
    axes = figure.subplots()
    truth = any(row["column"] == TRUTH for row in rows)
    looks = choose_looks([ALPHA, f"masks, by {metric}", *([strength] if truth else [])])
    for number, (name, (colour, marker, style)) in enumerate(looks.items()):
        own = [(row["epoch"], [tau for tau in row["tau"] if tau is not None]) for row in rows if row["column"] == name]
        _draw_seeds(axes, dict(own), colour, marker, style, name, 0.25 * (number - 1))
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xlabel(AXES["epoch"])
    axes.set_ylabel(f"rank correlation τ with {'the truth' if truth else 'strength'}, without none")
    axes.legend(fontsize=8)
    axes.set_title(f"mean of {len(rows[0]['tau'])} supernets with its 95% interval; points: supernets", fontsize=10)


def _draw_seeds(
    axes: Axes, curve: dict[int, list[float]], colour: str, marker: str, style: str, label: str, shift: float = 0.0
) -> None:
    """Draws means with their 95% intervals as a curve, and a point for each seed. curve: the values of all seeds at
    each x. shift: to the right, so that curves do not hide each other."""
    at = sorted(each for each, values in curve.items() if values)
    means = np.array([np.mean(curve[each]) for each in at])
    ends = np.array([bootstrap(curve[each]) for each in at]).reshape(-1, 2).T
    xs = np.array(at) + shift
    axes.errorbar(xs, means, abs(ends - means), color=colour, marker=marker, linestyle=style, label=label, capsize=2)
    for x, each in zip(xs, at, strict=True):
        axes.plot([x] * len(curve[each]), curve[each], ".", color=colour, alpha=0.25, markersize=5)


def draw_preferences(figure: Figure, records: list[dict], rows: list[dict], metric: str, strength: str) -> None:
    """Draws Fig. 2, a row per edge: by how much α prefers the skip connection (or else the first operation) to the mean
    of the others, and by how much it is stronger, with the range over the repeats. metric: "accuracy" or "loss"."""
    figure.set_size_inches(9.5, 1.3 + 0.3 * len(records))
    left, right = figure.subplots(1, 2, sharey=True)
    labels, sign = [], 1 if metric == "accuracy" else -1
    for row, record in enumerate(records):
        names, columns = record["operations"], record["columns"]
        first = names.index("skip_connect") if "skip_connect" in names else 0
        repeated = [name for name in columns if name == strength or name.startswith(f"{strength}, again")]
        leads = []
        for column in (ALPHA, *repeated):
            values = [each["weight" if column == ALPHA else metric] for each in columns[column]["measured"]]
            leads.append(values[first] - (sum(values) - values[first]) / max(1, len(values) - 1))
        left.plot(leads[0], row, "s", color=RED)
        repeats = [sign * lead for lead in leads[1:]]
        right.plot([min(repeats), max(repeats)], [row, row], color="black", linewidth=1.5)
        right.plot(np.mean(repeats), row, "o", color="black")
        labels.append(f"{record['edge'][0]}→{record['edge'][1]}, {names[first]}")
    left.set_yticks(range(len(records)), labels, fontsize=8)
    left.invert_yaxis()
    left.set_xlabel("softmax(α), less that of the others")
    right.set_xlabel("accuracy, how much higher (points)" if metric == "accuracy" else "loss, how much lower (nats)")
    for axes, title in ((left, "(a) α"), (right, f"(b) strength: {strength}")):
        axes.set_title(title, fontsize=10)
        axes.xaxis.get_major_locator().set_params(nbins=6)
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.grid(axis="y", linewidth=0.3)
    figure.suptitle(f"{CELL_NAMES[records[0]['cell']]}: to the right of zero the named operation is ahead", fontsize=11)


def draw_gaps(figure: Figure, curves: dict[str, list[dict]], names: dict[str, str]) -> None:
    """Draws Fig. 3: mean(α_skip - α_conv), softmaxed, against the validation accuracy, and beside it against the epoch.
    curves: the epochs of each search, and names: what to call it, both by its log."""
    figure.set_size_inches(9.5, 4.2)
    for axes, x in zip(figure.subplots(1, 2, sharey=True), ("valid_accuracy", "epoch"), strict=True):
        for (log, curve), (colour, marker, style) in zip(curves.items(), itertools.cycle(OTHER_LOOKS), strict=False):
            xs, ys = ([record[key] for record in curve] for key in (x, "skip_gap"))
            label = escape_name(names[log]) if x == "epoch" else None
            axes.plot(xs, ys, color=colour, marker=marker, linestyle=style, label=label, linewidth=1, markersize=3.5)
            axes.plot(xs[-1], ys[-1], color=colour, marker=marker, markersize=9, markeredgecolor="black")
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.set_xlabel(AXES[x])
    axes.xaxis.get_major_locator().set_params(integer=True)  # of the epochs
    figure.axes[0].set_ylabel("mean(α_skip − α_conv), softmaxed")
    figure.legend(loc="outside lower center", ncols=5, fontsize=8)
    figure.suptitle("the gap over a search, the last epoch with the large mark", fontsize=11)


def draw_shuffles(figure: Figure, networks: dict[str, dict], chance: float) -> None:
    """Draws Table 1: the test accuracy of each network before shuffling, as a circle, and after each shuffle, with the
    mean. chance: the accuracy of guessing, in percent."""
    figure.set_size_inches(7.5, 4)
    axes = figure.subplots()
    _draw_columns(axes, {name: network["after"] for name, network in networks.items()})
    before = [network["before"] for network in networks.values()]
    axes.plot(range(len(before)), before, "ko", markerfacecolor="none", markersize=11, label="before shuffling")
    axes.axhline(chance, color=GREY, linestyle="-.", linewidth=1, label="chance")
    axes.set_ylim(0, 105)
    axes.set_ylabel("test accuracy (%)")
    axes.set_title("after each shuffle; thick line: mean", fontsize=10)
    axes.legend(fontsize=8.5)


def _draw_columns(axes: Axes, columns: dict[str, Sequence[float]]) -> None:
    """Draws a column of points for each name, with a thick line at their mean."""
    looks = choose_looks(list(columns))
    for place, (name, values) in enumerate(columns.items()):
        colour, marker, _ = looks[name]
        axes.plot([place] * len(values), values, marker, color=colour, alpha=0.6, markersize=5)
        if values:
            axes.plot([place - 0.25, place + 0.25], [np.mean(values)] * 2, color=colour, linewidth=2.5)
    axes.set_xticks(range(len(columns)), [name.replace(" (", "\n(") for name in columns], fontsize=8.5)


def draw_selection(figure: Figure, records: list[dict], title: str, found: Genotype | Arch | None = None) -> None:
    """Draws the validation accuracy over the rounds of a selection (Fig. 6), and above it the cells that it chose (Fig.
    5). found: the architecture, None while the selection goes on."""
    figure.suptitle(title)
    top = bottom = figure
    if found:
        figure.set_size_inches(1 + 7 * len(found.cells), 8 if records else 5.5)
        if records:
            top, bottom = figure.subfigures(2, 1, height_ratios=[2, 1])
        places = top.subplots(1, len(found.cells), squeeze=False).flat
        for axes, (cell_type, cell) in zip(places, found.cells.items(), strict=True):
            draw_cell(axes, cell, CELL_NAMES[cell_type])
        if not records:  # the search decided everything (SGAS)
            return
    else:
        figure.set_size_inches(8, 4)
    axes = bottom.subplots()
    rounds = [record["round"] for record in records]
    axes.plot(rounds, [record["valid_accuracy"] for record in records], color=BLUE, marker="o", label="after tuning")
    dips = [record["discretised_accuracy"] for record in records]
    axes.plot(rounds, dips, color=ORANGE, linestyle=":", marker="v", label="after discretizing")
    topology = [record["round"] for record in records if any("node" in decision for decision in record["decisions"])]
    if topology:
        axes.axvspan(topology[0] - 0.5, rounds[-1] + 0.5, color=GREY, alpha=0.15, label="topology", linewidth=0)
    axes.set_xlabel("round of the selection")
    axes.set_ylabel("validation accuracy (%)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8)


def draw_cell(axes: Axes, cell: DiscreteCell, title: str) -> None:
    """Draws a cell as Fig. 5 does, operations with parameters in red, and in bold for a print in grey.

    Every operation has its own row. Its arrow runs straight along the row, and its label stands just before the node
    that it feeds. A node stands in the middle of the rows of its operations. So no arrow crosses the label of another.
    """
    rows: dict[int, list[int]] = {}
    for row, (_, _, node) in enumerate(cell.operations):
        rows.setdefault(node, []).append(row)
    height = len(cell.operations)
    starts = (0.5,) if cell.inputs == 1 else (0.3, 0.7)
    places = {node: (0.0, height * start) for node, start in enumerate(starts)}
    for node, own in rows.items():
        places[node] = (3.5 * (node - cell.inputs + 1) + 0.3, sum(own) / len(own))
    end = (3.5 * (len(rows) + 1) - 0.7, sum(places[node][1] for node in cell.concat) / len(cell.concat))
    colours = ("#444444", "#1f5fa8", "#2a8c55", "#8a4fb5", "#b8860b", "#0e8f9c", "#a34a28")
    for row, (operation, source, node) in enumerate(cell.operations):
        (x0, y0), (x1, y1) = places[source], places[node]
        colour = GREY if operation == "none" else colours[source % len(colours)]
        arrival = (x1 - 0.32, y1 + min(max((row - y1) * 0.3, -0.24), 0.24))
        points = [(x0 + 0.3, y0), (x0 + 0.75, row), (x1 - 0.75, row), arrival]
        _draw_arrow(axes, points, colour, ":" if operation == "none" else "-")
        axes.text(
            x1 - 1.75, row, operation, ha="center", va="center", fontsize=7.5, zorder=3,
            color=RED if is_convolution(operation) else "black",
            weight="bold" if is_convolution(operation) else "normal",
            bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": colour, "linewidth": 0.8},
        )  # fmt: skip
    for node in cell.concat:
        x, y = places[node]
        _draw_arrow(axes, [(x + 0.32, y), (end[0] - 0.9, y), (end[0] - 0.45, end[1])], GREY, "--")
    numbers = [str(number) for number in range(len(places))]
    labels = numbers if cell.inputs == 1 else ["c_{k-2}", "c_{k-1}", *numbers]
    for node, place in places.items():
        _draw_node(axes, place, labels[node])
    _draw_node(axes, end, "c_{k}")
    axes.set_xlim(-0.7, end[0] + 0.7)
    axes.set_ylim(height - 0.3, -0.9)
    axes.set_title(title, fontsize=11)
    axes.axis("off")


def _draw_arrow(axes: Axes, points: Sequence[tuple[float, float]], colour: str, style: str) -> None:
    """Draws a line through the points with a head at its end."""
    xs, ys = zip(*points, strict=True)
    axes.plot(xs, ys, color=colour, linestyle=style, linewidth=1.3, zorder=1, solid_joinstyle="round")
    head = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", points[-1], points[-2], arrowprops=head, zorder=1)


def _draw_node(axes: Axes, place: tuple[float, float], label: str) -> None:
    """Draws a box with a label, which is a formula."""
    width = 0.9 if label.startswith("c") else 0.6
    corner = (place[0] - width / 2, place[1] - 0.3)
    axes.add_patch(FancyBboxPatch(corner, width, 0.6, boxstyle="round,pad=0.02", facecolor="#dde7f3", zorder=4))
    axes.text(*place, f"${label}$", ha="center", va="center", fontsize=9, zorder=5)


def draw_cells(figure: Figure, architectures: Sequence[tuple[str, Genotype | Arch]]) -> None:
    """Draws one row of cells per architecture. architectures: each with the name, file or text that the user gave."""
    columns = max(len(architecture.cells) for _, architecture in architectures)
    figure.set_size_inches(1 + 7 * columns, 4.6 * len(architectures))
    places = figure.subplots(len(architectures), columns, squeeze=False)
    for row, (text, architecture) in zip(places, architectures, strict=True):
        name = "" if text.lstrip().startswith(("Genotype", "|")) else f"{escape_name(Path(text).stem)}: "
        for axes in row:
            axes.axis("off")
        for axes, (cell_type, cell) in zip(row, architecture.cells.items(), strict=False):
            draw_cell(axes, cell, name + CELL_NAMES[cell_type])


def draw_retraining(figure: Figure, records: list[dict], title: str) -> None:
    """Draws training and test accuracy and loss per epoch."""
    figure.set_size_inches(9, 4)
    figure.suptitle(escape_name(title))
    epochs = [record["epoch"] for record in records]
    for axes, quantity, unit in zip(figure.subplots(1, 2), ("accuracy", "loss"), (" (%)", " (nats)"), strict=True):
        for split, colour, style in (("train", ORANGE, "--"), ("test", BLUE, "-")):
            values = [record[f"{split}_{quantity}"] for record in records]
            axes.plot(epochs, values, color=colour, linestyle=style, label=split)
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity + unit)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()


def draw_trajectories(
    figure: Figure, curves: dict[str, Curves], averages: dict[str, float | None], x: str, y: str
) -> None:
    """Draws Fig. 4, 6, 8 and 9: for each method the mean of `y` over the seeds with its 95% interval, and the seeds as
    points, as curves over `x`; both are keys of AXES. A panel for each data set or space has its curves and the average
    of all architectures, if there is one."""
    figure.set_size_inches(3 + 2.4 * len(curves), 3.9)  # small, so that its text can be read where it is shown
    seeds = max(len(values) for panel in curves.values() for curve in panel.values() for values in curve.values())
    places = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (panel, methods) in zip(places, curves.items(), strict=True):
        for (name, curve), look in zip(methods.items(), choose_looks(list(methods)).values(), strict=True):
            _draw_seeds(axes, curve, *look, name)
        if averages[panel] is not None:
            axes.axhline(averages[panel], color=GREY, linestyle="-.", linewidth=1, label="average of all architectures")
        axes.set_title(panel)
        axes.set_xlabel(AXES[x])
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.axes[0].set_ylabel(AXES[y])
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    text = f"mean over {seeds} seeds with its 95% interval; points: seeds"
    figure.suptitle(text if seeds > 1 else "one seed", fontsize=10)


def draw_errors(figure: Figure, by_seed: dict[str, dict[int, float]], known: dict[str, float]) -> None:
    """Draws Table 4 on NAS-Bench-201: a point for each method and seed, with lines from what α chose to what
    perturbation chose in the same supernet. by_seed: true test error in percent, by method and seed; known: the errors
    of what needs no search."""
    figure.set_size_inches(2 + len(by_seed), 4.2)
    axes = figure.subplots()
    _draw_columns(axes, {name: list(errors.values()) for name, errors in by_seed.items()})
    if list(by_seed)[:2] == ["DARTS", "DARTS+PT"]:
        for seed, error in by_seed["DARTS"].items():
            axes.plot([0, 1], [error, by_seed["DARTS+PT"][seed]], color=GREY, linewidth=0.7, zorder=0)
    for (name, error), style in zip(known.items(), ("-.", "--"), strict=True):
        axes.axhline(error, color="black", linestyle=style, linewidth=1, label=f"{name}: {error:.2f}")
    axes.set_yscale("log")
    axes.minorticks_off()
    ticks = [6, 7, 8, 10, 15, 20, 30, 45, 90]
    axes.set_yticks(ticks, ticks)
    axes.set_ylabel(f"{AXES['test_error']}, CIFAR-10, log scale")
    axes.set_title("what each seed finds; thick line: mean", fontsize=10)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
