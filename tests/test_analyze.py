"""The argument of Sec. 3, measured: strength, shuffled edges, Proposition 1 on feature maps, ."""

from __future__ import annotations

import copy
import json
import signal

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import ptnas
import runs
from data import load_data
from genotypes import PUBLISHED, SPACES
from ptnas import Progress, SearchSettings, Selection, SelectionSettings, evaluate
from tests.conftest import Batches, blank, load_script, make_images, make_supernet

ANALYZE, TRAIN = load_script("analyze"), load_script("train_search")
pairs_of_edges, swapped = ANALYZE.list_edge_pairs, ANALYZE.swap
SMALL = ["--epochs", "2", "--channels", "2", "--limit", "64", "--keep-every", "1"]


def state_of(module):
    return {name: copy.deepcopy(value) for name, value in module.state_dict().items()}


def same_state(before, after):
    return before.keys() == after.keys() and all(
        torch.equal(value, after[name]) if isinstance(value, torch.Tensor) else value == after[name]
        for name, value in before.items()
    )


# ------------------------------------------------------------------------------------------------- Table 1: shuffling


@pytest.mark.parametrize("space", ["s1", "s2", "s4", "nb201"])
def test_swapping_is_undone_exactly(space):
    supernet, (images, _) = make_supernet(space), make_images()
    before, state = supernet(images), state_of(supernet)
    pairs = [choices[-1] for choices in pairs_of_edges(supernet)]
    with swapped(pairs), swapped([(pairs[0][0], 0, 1), (pairs[0][0], 1, 2)]):
        assert not torch.equal(supernet(images), before)
    assert torch.equal(supernet(images), before)
    assert same_state(state, state_of(supernet))


def test_swapping_is_undone_after_an_error():
    supernet, (images, _) = make_supernet(), make_images()
    before = supernet(images)
    with pytest.raises(KeyError), swapped([choices[0] for choices in pairs_of_edges(supernet)]):
        raise KeyError
    assert torch.equal(supernet(images), before)


@pytest.mark.parametrize("space", ["s1", "s2", "nb201"])
def test_swapped_edges_take_their_operations_and_their_alpha_along(space):
    """In every cell the same two edges, so that α can be exchanged as well: then all is as if the edges of every node
    had been written down in another order."""
    supernet, (images, _) = make_supernet(space), make_images()
    one, other = (1, 5) if space == "nb201" else (7, 12)
    with swapped([(cell.edges, one, other) for cell in supernet.skeleton.cells]):
        swapped_logits = supernet(images)
    by_hand = copy.deepcopy(supernet)
    with torch.no_grad():
        for cell_type, alpha in by_hand.alpha.items():
            alpha[[one, other]] = supernet.alpha[cell_type][[other, one]]
        for cell, original in zip(by_hand.skeleton.cells, supernet.skeleton.cells, strict=True):
            for to, source in ((one, other), (other, one)):
                cell.edges[to] = copy.deepcopy(original.edges[source])
                cell.edges[to].row = to
    assert torch.allclose(by_hand(images), swapped_logits, rtol=1e-10, atol=1e-12)


def test_every_pair_of_edges_that_is_offered_fits():
    supernet, (images, _) = make_supernet(), make_images(count=4, size=9)
    for cell, choices in zip(supernet.skeleton.cells, pairs_of_edges(supernet), strict=True):
        # a reduction cell has 8 edges of stride 2 and 6 of stride 1
        assert len(choices) == (91 if cell.cell_type == "normal" else 28 + 15)
        for pair in choices[:: 7 if cell.cell_type == "normal" else 5]:
            with swapped([pair]):
                assert supernet(images).shape == (4, 3)


def test_a_masked_edge_stays_masked_where_it_stands():
    supernet, (images, _) = make_supernet(), make_images()
    with supernet.mask("normal", 1), swapped([(cell.edges, 1, 3) for cell in supernet.skeleton.cells]):
        masked = supernet(images)
        supernet.skeleton.cells[0].edges[3].operations[1][1].weight.data.add_(1.0)  # edge 1, now in the place of 3
        assert torch.equal(supernet(images), masked)


def test_a_resnet_of_three_layers_per_stage_is_the_resnet_20_of_he_et_al():
    network = ANALYZE.Staged("ResNet", 3, 16, 10, 3)
    shortcuts = 16 * 32 + 32 * 64 + 2 * 32 + 2 * 64
    assert sum(p.numel() for p in network.parameters()) == 269_722 + shortcuts  # 0.27M in their Table 6


@pytest.mark.parametrize("kind", ["VGG", "ResNet"])
@pytest.mark.parametrize("size", [8, 9])
def test_layers_of_a_stage_can_change_places(kind, size):
    torch.manual_seed(0)
    network = ANALYZE.Staged(kind, 3, 4, 3, 1).double()
    images, _ = make_images(size=size)
    network(images)  # running statistics
    network.eval()
    before, state = network(images), state_of(network)
    assert [len(choices) for choices in network.list_layer_pairs()] == [3, 1, 1]
    for choices in network.list_layer_pairs():
        for pair in choices:
            with swapped([pair]):
                assert not torch.allclose(network(images), before)
    assert torch.equal(network(images), before)
    assert same_state(state, state_of(network))


# ------------------------------------------------------------------------------------------------------------ strength


@pytest.mark.parametrize(
    ("first", "second", "tau"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4], [1, 2, 4, 3], 4 / 6),
        ([(1, 9), (1, 8), (0, 5)], [3, 2, 1], 1.0),  # a tie that the second number breaks
        ([1, 1, 2], [1, 2, 3], 2 / 6**0.5),  # τ-b: 2 pairs agree, one is a tie in one of the orders
        ([1, 1, 1], [1, 2, 3], None),
        ([1], [2], None),
    ],
)
def test_rank_correlation_of_known_orders(first, second, tau):
    found = ANALYZE.correlate_ranks(first, second)
    assert found == (None if tau is None else pytest.approx(tau))


def selection(supernet, metric="accuracy"):
    data = Batches(*make_images(count=24))
    how = SelectionSettings(metric=metric, tune_epochs=1)
    return Selection(supernet, SearchSettings(epochs=1, batch_size=8), how, data, Batches(*make_images(24, seed=1)))


@pytest.mark.parametrize("space", ["s2", "s4", "nb201"])
def test_discretisation_accuracy_leaves_the_supernet_bit_for_bit_as_it_was(space):
    supernet, (images, _) = make_supernet(space), make_images()
    judge, state, before = selection(supernet), state_of(supernet), supernet(images)
    optimizers = copy.deepcopy(judge.bilevel.w_optimizer.state_dict()), judge.bilevel.steps
    random_state = torch.get_rng_state()
    ANALYZE.measure_strength(judge, supernet.space.cell_types[0], 1, "supernet.pt", Progress())
    assert same_state(state, state_of(supernet))
    assert torch.equal(supernet(images), before)
    assert (judge.bilevel.w_optimizer.state_dict(), judge.bilevel.steps) == optimizers
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_strength_is_what_the_supernet_reaches_with_the_operation_alone(metric):
    supernet = make_supernet("s2")
    judge = selection(supernet, metric)
    record = ANALYZE.measure_strength(judge, "normal", 2, "supernet.pt", Progress())
    reached = {}
    for operation, name in enumerate(supernet.space.operations["normal"][2]):
        trial = copy.deepcopy(supernet)
        trial.decide("normal", 2, operation)
        reached[name] = judge.measure_tuned(trial)
        found = record["operations"][name]
        assert found["discretization"] == {"accuracy": reached[name].accuracy, "loss": reached[name].loss}
        assert found["magnitude"]["weight"] == supernet.weights()["normal"][2][operation].item()
    best = max(reached, key=lambda name: reached[name].accuracy if metric == "accuracy" else -reached[name].loss)
    assert record["chosen"]["discretization"] == best
    assert record["edge"] == [0, 3]
    agree = record["chosen"]["magnitude"] == record["chosen"]["discretization"]
    assert record["tau"]["magnitude"] == pytest.approx(1.0 if agree else -1.0)


# ---------------------------------------------------------------------------------------------------- the commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small supernets, every epoch kept."""
    path = tmp_path_factory.mktemp("supernets")
    for name, options in (
        ("supernet", ["--space", "s2"]),
        ("other", ["--space", "s2", "--seed", "1"]),
        ("nb201", ["--space", "nb201"]),
        ("fixed", ["--space", "s2", "--alpha", "fixed"]),
        ("s4", ["--space", "s4"]),
        ("s1", ["--space", "s1"]),
        ("s3", ["--space", "s3"]),
        ("decided", ["--space", "nb201", "--sgas", "magnitude"]),
    ):
        assert TRAIN.main([*options, *SMALL, "--save", str(path / f"{name}.pt")]) == 0
    return path


FIGURES = {
    "fig1": ["--tune-epochs", "1", "--edges", "2"],
    "fig2": ["--tune-epochs", "0"],
    "fig3": [],
    "table1": ["--shuffles", "2", "--epochs", "1", "--channels", "2", "--layers", "3"],
    "cells": [],
}


@pytest.mark.parametrize("command", FIGURES)
def test_every_command_draws_a_picture_and_writes_its_numbers(command, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)  # where supernet.pt is, the default
    save = tmp_path / "figure.png"
    assert ANALYZE.main([command, *FIGURES[command], "--save", str(save)]) == 0
    assert not blank(save)
    json.loads(save.with_suffix(".json").read_text())
    assert f"written to {save} and {save.with_suffix('.json')}" in capsys.readouterr().out


def numbers(folder, tmp_path, command, *arguments):
    save = tmp_path / f"{command}.png"
    assert ANALYZE.main([command, *arguments, *FIGURES[command], "--save", str(save)]) == 0
    assert not blank(save)
    return json.loads(save.with_suffix(".json").read_text())


@pytest.mark.parametrize("command", ["fig1", "fig2", "table1"])
def test_the_commands_work_on_nas_bench_201(command, folder, tmp_path):
    found = numbers(folder, tmp_path, command, "--ckpt", str(folder / "nb201.pt"))
    count = {"fig1": 2, "fig2": 6, "table1": 9}[command]
    assert len(found["measured"]) == count


def test_fig1_measures_random_edges_of_several_supernets(folder, tmp_path):
    paths = [str(folder / name) for name in ("supernet.pt", "other.pt")]
    found = numbers(folder, tmp_path, "fig1", "--ckpt", *paths)
    assert [each["supernet"] for each in found["measured"]] == ["supernet.pt"] * 2 + ["other.pt"] * 2
    assert len({(each["supernet"], each["cell"], *each["edge"]) for each in found["measured"]}) == 4
    taus = [each["tau"]["magnitude"] for each in found["measured"]]
    assert found["summary"]["magnitude"]["tau"] == pytest.approx(sum(taus) / 4)
    same = [each["chosen"]["magnitude"] == each["chosen"]["discretization"] for each in found["measured"]]
    assert found["summary"]["magnitude"]["agrees"] == sum(same)
    again = numbers(folder, tmp_path, "fig1", "--ckpt", *paths, "--seed", "1")
    assert [each["edge"] for each in again["measured"]] != [each["edge"] for each in found["measured"]]


def test_fig2_measures_every_edge_of_a_cell(folder, tmp_path):
    found = numbers(folder, tmp_path, "fig2", "--ckpt", str(folder / "supernet.pt"), "--cell", "reduce")
    assert [tuple(each["edge"]) for each in found["measured"]] == list(SPACES["s2"].edges)
    assert {each["cell"] for each in found["measured"]} == {"reduce"}


def test_fig3_is_drawn_from_the_log_alone(folder, tmp_path, capsys):
    log = tmp_path / "far.jsonl"
    log.write_text((folder / "supernet.jsonl").read_text())
    (curve,) = numbers(folder, tmp_path, "fig3", str(log)).values()
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert curve == [{name: each[name] for name in ("epoch", "valid_accuracy", "skip_gap")} for each in records]
    assert f"| {log} | 2 |" in capsys.readouterr().out


def test_table1_measures_before_and_after_every_shuffle(folder, tmp_path, capsys):
    found = numbers(folder, tmp_path, "table1", "--ckpt", str(folder / "supernet.pt"))
    order = [(each["network"], each["shuffle"]) for each in found["measured"]]
    assert order == [(kind, n) for kind in ("VGG", "ResNet", "DARTS supernet") for n in range(3)]
    supernet = [each for each in found["measured"] if each["network"] == "DARTS supernet"]
    checkpoint = runs.load_checkpoint(folder / "supernet.pt", "supernet")
    search = SearchSettings.of(checkpoint["settings"])
    data = load_data({"dataset": "digits", "seed": 0, "limit": 64}, torch.device("cpu"))
    network = search.supernet(SPACES["s2"], 10, 1)
    network.load_state_dict(checkpoint["state"]["bilevel"]["supernet"])
    assert supernet[0]["test_accuracy"] == evaluate(network, data.test, search.eval_batch_size).accuracy
    out = capsys.readouterr().out
    assert "| VGG | 92.69 | 9.83 ± 0.33 |" in out
    assert "| DARTS supernet | 88.44 | 81.09 ± 1.87 |" in out
    for place, kind in ((0, "vgg"), (3, "resnet")):
        network = runs.load_checkpoint(tmp_path / f"table1.{kind}.pt", "network")
        assert found["measured"][place]["test_accuracy"] == network["records"][-1]["test_accuracy"]
    usual = found["summary"]["ResNet"]
    assert usual["after"] == [each["test_accuracy"] for each in found["measured"][4:6]]
    assert usual["mean"] == pytest.approx(sum(usual["after"]) / 2)
    # Networks that are there are loaded, not trained again.
    files = [tmp_path / f"table1.{kind}.pt" for kind in ("vgg", "resnet")]
    trained = [runs.fingerprint(path) for path in files]
    (tmp_path / "table1.pt").unlink()
    again = numbers(folder, tmp_path, "table1", "--ckpt", str(folder / "supernet.pt"), "--resume")
    assert again["summary"] == found["summary"]
    assert trained == [runs.fingerprint(path) for path in files]


def test_cells_draws_published_ones_files_and_both_families(tmp_path, capsys):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(PUBLISHED["DARTS_V2"].to_json()))
    arch = "|skip_connect~0|+|nor_conv_3x3~0|none~1|+|nor_conv_1x1~0|avg_pool_3x3~1|nor_conv_3x3~2|"
    save = tmp_path / "cells.png"
    text = str(PUBLISHED["DARTS_V2"])
    assert ANALYZE.main(["cells", "DARTS_V2", str(file), arch, text, "--save", str(save)]) == 0
    assert not blank(save)
    found = json.loads(save.with_suffix(".json").read_text())
    assert [each["text"] for each in found] == [text, text, arch, text]
    assert found[2]["convolutions"] == {"cell": 3}
    # What is in the way is moved aside, were it what is to be drawn.
    before = file.read_text()
    assert ANALYZE.main(["cells", str(file), "--save", str(file.with_suffix(".png"))]) == 0
    assert (tmp_path / "mine.1.json").read_text() == before


def test_where_there_is_no_supernet_the_command_that_trains_one_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert ANALYZE.main(["fig3"]) == 2
    assert "python train_search.py --space s2" in capsys.readouterr().err


def test_a_stopped_measurement_goes_on_as_if_nothing_had_happened(folder, tmp_path, monkeypatch):
    arguments = ["fig1", "--ckpt", str(folder / "supernet.pt"), *FIGURES["fig1"]]
    whole, stopped = tmp_path / "whole.png", tmp_path / "stopped.png"
    assert ANALYZE.main([*arguments, "--save", str(whole)]) == 0
    step = ANALYZE.Measurements.step

    def once(self):
        if self.done:
            raise runs.Stopped(signal.SIGINT)
        return step(self)

    monkeypatch.setattr(ANALYZE.Measurements, "step", once)
    assert ANALYZE.main([*arguments, "--save", str(stopped)]) == 130
    assert not stopped.with_suffix(".json").exists()
    monkeypatch.undo()
    assert ANALYZE.main([*arguments, "--save", str(stopped), "--resume"]) == 0
    found = [json.loads(save.with_suffix(".json").read_text()) for save in (whole, stopped)]
    for each in found:
        for record in each["measured"]:
            del record["seconds"]
    assert found[0] == found[1]


@pytest.mark.parametrize("command", ["table2", "table3", "table4", "table5", "fig4", "fig6", "fig8", "fig9"])
def test_a_command_that_moved_names_the_new_one(command, capsys):
    assert ANALYZE.main([command, "--benchmark", "my file.csv"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"{command} moved: python reproduce.py {command} --benchmark 'my file.csv'")


def test_fig7_is_another_name_of_fig1(folder, tmp_path):
    files = []
    for command in ("fig1", "fig7"):
        save = tmp_path / f"{command}.png"
        assert ANALYZE.main([command, "--ckpt", str(folder / "s1.pt"), *FIGURES["fig1"], "--save", str(save)]) == 0
        files.append(json.loads(save.with_suffix(".json").read_text()))
    assert files[0]["command"] == files[1]["command"] == "fig1"
    assert files[0]["summary"] == files[1]["summary"]


def test_what_cannot_be_measured_is_told_in_one_line(folder, tmp_path, capsys):
    save = ["--save", str(tmp_path / "figure.png")]
    (tmp_path / "text.jsonl").write_text("no log\n")
    names = {name: ["--ckpt", str(folder / f"{name}.pt")] for name in ("supernet", "nb201", "fixed", "s4", "decided")}
    cases = (
        (["fig1", *names["fixed"], *save], "kept α at 0"),
        (["fig1", "--ckpt", str(folder / "none.pt"), *save], "there is no file"),
        (["fig1", *names["decided"], *save], "the search decided"),
        (["fig1", "--ckpt", str(folder / "supernet.pt"), str(folder / "nb201.pt"), *save], "of different"),
        (["fig1", "--ckpt", str(folder / "supernet.pt"), str(folder / "supernet.pt"), *save], "the same file name"),
        (["fig1", *names["supernet"], "--dataset", "nothing", *save], "no data set"),
        (["fig2", *names["decided"], *save], "the search decided"),
        (["fig2", *names["nb201"], "--cell", "reduce", *save], "the space nb201 has cell"),
        (["fig2", "--ckpt", str(folder / "supernet.pt"), str(folder / "other.pt"), *save], "unrecognized"),
        (["fig3", str(tmp_path / "none.jsonl"), *save], "there is no log"),
        (["fig3", str(tmp_path / "text.jsonl"), *save], "not the log of a search"),
        (["fig3", str(folder / "s4.jsonl"), *save], "no edge has both"),
        (["table1", *names["supernet"], "--layers", "2", *save], "at least 3"),
        (["fig1", *names["supernet"], "--save", str(folder / "supernet.png")], "not that of a run"),
        (["fig3", str(folder / "supernet.jsonl"), "--save", str(folder / "supernet.png")], "not that of a run"),
        (["fig2", *names["supernet"], "--save", str(tmp_path / "figure.json")], "ends in .png"),
        (["cells", "nothing", *save], "no architecture"),
        (["cells", "--save", str(tmp_path / "no" / "cells.png")], "cannot write"),
    )
    for arguments, message in cases:
        assert ANALYZE.main(arguments) == 2, arguments
        line = capsys.readouterr().err.splitlines()[-1]
        assert message in line, (arguments, line)
        assert line.startswith("analyze.py: error: ")
    assert not (tmp_path / "figure.png").exists()
    assert (folder / "supernet.pt").exists()


@pytest.mark.parametrize(("command", "name"), [("fig1", "s1"), ("fig2", "s3"), ("fig1", "s4")])
def test_the_commands_work_on_every_space(command, name, folder, tmp_path):
    assert numbers(folder, tmp_path, command, "--ckpt", str(folder / f"{name}.pt"))["measured"]


def test_other_data_of_the_same_classes_can_be_measured_on(folder, tmp_path, monkeypatch, capsys):
    images = tmp_path / "images"
    digits = load_digits()
    for part in ("train", "test"):
        for index in range(60):
            place = images / part / str(digits.target[index])
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray((digits.images[index] * 15).astype("uint8")).save(place / f"{index}.png")
    ckpt = ["--ckpt", str(folder / "supernet.pt")]
    save = tmp_path / "fig1.png"
    assert ANALYZE.main(["fig1", *ckpt, *FIGURES["fig1"], "--save", str(save)]) == 0
    more = ["--dataset", str(images), *FIGURES["fig1"], "--save", str(save)]
    assert ANALYZE.main(["fig1", *ckpt, *more, "--resume"]) == 2
    assert "was begun with datasets" in capsys.readouterr().err
    orders = []

    def seen(network, data, size, **more):
        if "top5" not in more:  # the training of VGG and ResNet asks for it
            orders.append(data.labels[data.indices].tolist())
        return evaluate(network, data, size, **more)

    monkeypatch.setattr(ptnas, "evaluate", seen)
    found = numbers(folder, tmp_path, "table1", *ckpt, "--dataset", str(images))
    # A folder is in the order of its classes, and batches of one class have other statistics.
    assert len(orders) == 9
    assert all(order == orders[0] != sorted(order) for order in orders)
    assert found["datasets"] == [str(images)]
    assert runs.load_checkpoint(tmp_path / "table1.vgg.pt", "network")["settings"]["dataset"] == str(images)
    assert "on images, 2 shuffles" in capsys.readouterr().out
