"""The pictures show what their records say."""

import io
import itertools
import os
import subprocess
import sys
from unittest.mock import Mock

import pytest
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import plots
from genotypes import PUBLISHED, SPACES, Arch
from tests.conftest import ROOT, load_script

ARCH = Arch(("skip_connect", "nor_conv_3x3", "none", "nor_conv_1x1", "avg_pool_3x3", "nor_conv_3x3"))


def draw(function, *arguments):
    """Draws a picture, renders it and returns it."""
    figure = Figure(layout="constrained")
    function(figure, *arguments)
    figure.savefig(io.BytesIO())
    return figure


def read_texts(axes):
    return [text.get_text() for text in axes.texts if text.get_text()]


def make_record(space, edge, names, **columns):
    where = {"supernet": f"{space}.pt", "cell": SPACES[space].cell_types[0], "edge": list(SPACES[space].edges[edge])}
    return where | {"epoch": 1, "operations": list(names), "columns": columns}


def test_no_setting_of_matplotlib_changes_a_picture(tmp_path):
    """A notebook names a backend that the environment of a command may lack, and not every machine has LaTeX."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\naxes.facecolor: black\n")
    settings = {"MPLBACKEND": "module://missing.backend_inline", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    code = "import sys, plots; sys.stdout.buffer.write(plots.render(lambda figure: figure.gca().set_title('α')))"
    plain = {key: value for key, value in os.environ.items() if not key.startswith("MPL")}
    pictures = [
        subprocess.check_output([sys.executable, "-c", code], env=plain | more, cwd=ROOT) for more in ({}, settings)
    ]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("last", ["the truth", "strength"])
def test_fig1_draws_the_orders_of_operations_and_names_them_by_the_last(last):
    names, orders = ("skip_connect", "sep_conv_3x3", "noise"), {"largest α": [2, 1, 0], "masks, by loss": [0, 0, 2]}
    places = orders | {"strength": [1, 0, 2]} | {last: [0, 2, 1]}
    record = make_record("s2", 3, names, **{name: {"places": each} for name, each in places.items()})
    figure = draw(plots.draw_ranks, [record] * 20, [], "loss", "strength")
    assert figure.get_suptitle().endswith("12 of 20 edges")
    panel = figure.axes[0]
    lines = [[2, 0, 0], [1, 0, 2], [0, 2, 1]] if last == "strength" else [[2, 0, 1, 0], [1, 0, 0, 2], [0, 2, 2, 1]]
    assert [list(line.get_ydata()) for line in panel.lines] == lines
    assert {text.get_text(): text.get_position()[1] for text in panel.texts} == dict(zip(names, (0, 2, 1), strict=True))


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_fig2_draws_how_far_the_skip_connection_is_ahead(metric):
    """To the right is what α prefers, and what has the higher accuracy or the lower loss."""
    measured = [
        [{"accuracy": 60.0, "loss": 0.6}, {"accuracy": 50.0, "loss": 0.7}],
        [{"accuracy": 58.0, "loss": 0.5}] * 2,
    ]
    columns = {"largest α": {"measured": [{"weight": 0.3}, {"weight": 0.7}]}}
    columns |= {f"tuned{end}": {"measured": each} for end, each in zip(("", ", again (1)"), measured, strict=True)}
    columns["tuned10"] = {"measured": [{"accuracy": 0.0, "loss": 9.0}] * 2}  # another number of epochs
    records = [make_record("s2", edge, ("skip_connect", "sep_conv_3x3"), **columns) for edge in range(14)]
    left, right = draw(plots.draw_preferences, records, [], metric, "tuned").axes
    assert left.lines[0].get_xdata() == pytest.approx([-0.4])
    ends, (middle,) = right.lines[0].get_xdata(), right.lines[1].get_xdata()
    assert ends == pytest.approx([0, 10] if metric == "accuracy" else [0, 0.1])
    assert middle == pytest.approx(5 if metric == "accuracy" else 0.05)
    assert [label.get_text() for label in left.get_yticklabels()][2] == "0→3, skip_connect"


def test_curves_show_means_with_intervals_and_every_seed_in_the_colour_of_its_method():
    rows = [{"epoch": epoch, "column": "masks, by loss", "tau": [0.1 * epoch, 0.3, None]} for epoch in (0, 4)]
    rows += [{"epoch": epoch, "column": "largest α", "tau": [None] * 3} for epoch in (0, 4)]  # α fixed at zero
    (axes,) = draw(plots.draw_agreement, [], rows, "loss", "strength").axes
    masks = next(each for each in axes.containers if each.get_label() == "masks, by loss").lines[0]
    assert list(masks.get_ydata()) == pytest.approx([0.15, 0.35])
    assert masks.get_color() == plots.ORANGE
    curves = {"nb201": {"DARTS+PT (fix α)": {1: [5.0, 7.0]}, "DARTS": {1: [9.0], 2: [8.0, 10.0]}}}
    (axes,) = draw(plots.draw_trajectories, curves, {"nb201": 9.0}, "epoch", "test_error").axes
    assert [each.lines[0].get_color() for each in axes.containers] == [plots.BLUE, plots.RED]
    looks = list(plots.choose_looks(["α bilevel, 0 epochs", "α bilevel, 32 epochs", "SGAS"]).values())
    assert looks[0][0] == plots.ORANGE
    assert len(set(looks)) == 3, "each has its own"
    assert [5.0, 7.0] in [list(line.get_ydata()) for line in axes.lines]


def test_table4_has_a_column_per_method_and_lines_from_alpha_to_perturbation():
    by_seed = {"DARTS": {3: 40.0, 5: 9.0}, "DARTS+PT": {3: 7.0, 5: 8.0}, "DARTS+random": {3: 12.0}}
    (axes,) = draw(plots.draw_errors, by_seed, {"chance": 10.55, "convolutions": 6.24}).axes
    drawn = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
    assert ([0, 0], [40.0, 9.0]) in drawn
    assert ([2], [12.0]) in drawn
    assert ([0, 1], [40.0, 7.0]) in drawn
    assert ([0, 1], [9.0, 8.0]) in drawn
    assert [label.get_text() for label in axes.get_xticklabels()] == ["DARTS", "DARTS+PT", "DARTS+random"]


def test_the_interval_of_a_mean_is_that_of_the_bootstrap():
    values = [1.0, 2.0, 3.0, 4.0]
    means = sorted(sum(draw) / 4 for draw in itertools.product(values, repeat=4))  # all draws there are
    low, high = plots.bootstrap(values)
    assert (low, high) == (pytest.approx(means[6], abs=0.13), pytest.approx(means[-7], abs=0.13))
    assert plots.format_mean([1.0, None, 3.0]).startswith("2.00 [1.00, 3.00]")
    assert (plots.format_mean([2.5]), plots.format_mean([None])) == ("2.50", "-")


def test_a_cell_shows_every_operation_in_its_own_row_and_convolutions_in_red():
    for architecture in (*PUBLISHED.values(), ARCH):
        for cell in architecture.cells.values():
            axes = Figure().subplots()
            plots.draw_cell(axes, cell, "cell")
            labels = [text for text in axes.texts if text.get_text() and not text.get_text().startswith("$")]
            assert [text.get_text() for text in labels] == [name for name, _, _ in cell.operations]
            assert len({text.get_position()[1] for text in labels}) == len(labels)
            for text in labels:
                assert (to_hex(text.get_color()) == plots.RED) == ("conv" in text.get_text())


def test_table1_shows_every_shuffle_and_a_network_that_is_not_shuffled_yet():
    networks = {"VGG": {"before": 90.0, "after": [10.0, 20.0], "mean": 15.0}, "ResNet": {"before": 80.0, "after": []}}
    (axes,) = draw(plots.draw_shuffles, networks, 10.0).axes
    drawn = [list(line.get_ydata()) for line in axes.lines]
    assert drawn[:4] == [[10.0, 20.0], [15.0, 15.0], [], [90.0, 80.0]], "shuffles, their mean, none yet, before"


def test_fig3_shows_each_search_under_a_name_that_is_no_formula():
    curve = [
        {"epoch": 1, "valid_accuracy": 40.0, "skip_gap": 0.1},
        {"epoch": 2, "valid_accuracy": 50.0, "skip_gap": 0.3},
    ]
    names = {"a.jsonl": "a$b$", "b.jsonl": "\udcff"}
    figure = draw(plots.draw_gaps, dict.fromkeys(names, curve), names)
    for axes, xs in zip(figure.axes, ([40.0, 50.0], [1, 2]), strict=True):
        assert [list(line.get_ydata()) for line in axes.lines[:1]] == [[0.1, 0.3]]
        assert list(axes.lines[0].get_xdata()) == xs
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [r"a\$b\$", r"\udcff"]


def read_frames(axes, colour):
    """Returns the columns and rows of the fields of a heat map that have a frame of this colour."""
    frames = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [(round(each.get_x()), round(each.get_y())) for each in frames if each.get_edgecolor() == to_rgba(colour)]


@pytest.mark.parametrize("name", ["s1", "s4"])
def test_a_search_shows_the_weights_of_every_edge_and_the_decisions_of_sgas(name):
    space = SPACES[name]
    weights = {kind: [[0.25, 0.75] for _ in space.edges] for kind in space.cell_types}
    edge = {"cell": "normal", "edge": [0, 3], "operation": space.operations["normal"][2][1]}
    decisions = [edge, {"cell": "normal", "node": 4, "inputs": [0, 1]}]
    record = {"epoch": 1, "valid_accuracy": 50.0, "skip_gap": None, "weights": weights, "decisions": decisions}
    normal = draw(plots.draw_search, [record], space).axes[1]
    assert len(read_texts(normal)) == 28
    assert len(read_frames(normal, plots.RED)) == 1
    assert [line.get_xdata()[0] for line in normal.lines] == [space.edges.index((source, 4)) for source in (2, 3)]


def test_a_search_shows_what_alpha_would_choose_on_every_edge_now():
    space = SPACES["nb201"]
    skip, pooling, *others = ([0.1, 0.3, 0.2, 0.2, 0.2], [0.1, 0.2, 0.2, 0.2, 0.3], *([[0.3, 0.2, 0.2, 0.1, 0.2]] * 4))
    record = {"epoch": 1, "valid_accuracy": 50.0, "skip_gap": 0.1, "weights": {"cell": [skip, pooling, *others]}}
    axes = draw(plots.draw_search, [record], space).axes[1]
    assert read_frames(axes, "black") == [(0, 1), (1, 4), (2, 0), (3, 0), (4, 0), (5, 0)], "(edge, operation)"
    assert axes.get_title().endswith("α would choose the skip connection on 1 of 6 edges")
    record |= {"skip_gap": 0.0, "weights": {"cell": [[0.2] * 5] * 6}}
    axes = draw(plots.draw_search, [record], space).axes[1]
    assert not read_frames(axes, "black"), "a fixed α chooses nothing"
    assert axes.get_title() == "softmax(α), cell"


def test_a_system_without_a_folder_to_write_in_is_told_what_to_set(monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.style")
    monkeypatch.setattr(sys, "meta_path", [Mock(find_spec=Mock(side_effect=OSError("read-only")))])
    with pytest.raises(SystemExit, match="name one in TMPDIR and in MPLCONFIGDIR"):
        load_script("plots")
