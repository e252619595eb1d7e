"""The pictures show what their records say."""

import io
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


def make_strength(space, edge, chosen, losses):
    operations = {
        name: {"magnitude": {"weight": 0.2 + 0.1 * place}, "discretization": {"loss": loss, "accuracy": 100 - loss}}
        for place, (name, loss) in enumerate(losses.items())
    }
    where = {"supernet": f"{space}.pt", "cell": SPACES[space].cell_types[0], "edge": list(SPACES[space].edges[edge])}
    return where | {"operations": operations, "chosen": chosen, "tau": {"magnitude": None, "perturbation": 1.0}}


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


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_the_higher_bar_is_the_stronger_operation(metric):
    losses = {"skip_connect": 2.0, "sep_conv_3x3": 0.5, "noise": 1.0}
    figure = draw(plots.draw_strengths, [make_strength("s2", 3, {}, losses)] * 4, metric, 1)
    panels = [axes for axes in figure.axes if axes.patches and axes.get_title()]
    assert len(panels) == 4
    right = next(axes for axes in figure.axes if axes.patches and axes not in panels)
    heights = [right.transData.transform((0, bar.get_y() + bar.get_height()))[1] for bar in right.patches]
    assert heights[1] > heights[2] > heights[0] > right.bbox.y0
    assert [bar.get_height() for bar in panels[0].patches] == pytest.approx([0.2, 0.3, 0.4])


@pytest.mark.parametrize("space", ["s2", "nb201"])
def test_fig2_draws_what_each_edge_chooses(space):
    names = SPACES[space].operations[SPACES[space].cell_types[0]][0]
    choices = [{"magnitude": names[edge % 2], "discretization": names[1]} for edge in range(len(SPACES[space].edges))]
    records = [make_strength(space, *numbered, dict.fromkeys(names, 1.0)) for numbered in enumerate(choices)]
    figure = draw(plots.draw_choices, records, "loss", 2)
    for axes, criterion in zip(figure.axes, ("magnitude", "discretization"), strict=True):
        assert [text for text in read_texts(axes) if text in names] == [each["chosen"][criterion] for each in records]


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
    assert [bar.get_height() for bar in axes.patches] == [90.0, 15.0, 80.0]
    assert list(axes.lines[0].get_ydata()) == [10.0, 20.0]


def test_fig3_shows_each_search_under_a_name_that_is_no_formula():
    curve = [
        {"epoch": 1, "valid_accuracy": 40.0, "skip_gap": 0.1},
        {"epoch": 2, "valid_accuracy": 50.0, "skip_gap": 0.3},
    ]
    figure = draw(plots.draw_gaps, {"a$b$.jsonl": curve, "\udcff.jsonl": curve})
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
    assert read_frames(axes, "white") == [(0, 1), (1, 4), (2, 0), (3, 0), (4, 0), (5, 0)], "(edge, operation)"
    assert axes.get_title().endswith("α would choose the skip connection on 1 of 6 edges")
    record |= {"skip_gap": 0.0, "weights": {"cell": [[0.2] * 5] * 6}}
    axes = draw(plots.draw_search, [record], space).axes[1]
    assert not read_frames(axes, "white"), "a fixed α chooses nothing"
    assert axes.get_title() == "softmax(α), cell"


def test_a_system_without_a_folder_to_write_in_is_told_what_to_set(monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.style")
    monkeypatch.setattr(sys, "meta_path", [Mock(find_spec=Mock(side_effect=OSError("read-only")))])
    with pytest.raises(SystemExit, match="name one in TMPDIR and in MPLCONFIGDIR"):
        load_script("plots")
