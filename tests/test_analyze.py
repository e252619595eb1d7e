"""The argument of Sec. 3, measured: strength, shuffled edges, Proposition 1 on feature maps, curvature in α."""

from __future__ import annotations

import copy
import json
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn import functional as F

import runs
from data import load_data
from genotypes import PUBLISHED, SPACES
from ptnas import (
    Progress,
    SearchSettings,
    Selection,
    SelectionSettings,
    alpha_hessian,
    branches,
    branching,
    evaluate,
    group,
    largest_eigenvalue,
    pairs_of_edges,
    standardize,
    swapped,
)
from tests.conftest import Batches, blank, load_script, make_images, make_supernet

ANALYZE, TRAIN = load_script("analyze"), load_script("train_search")
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
    assert [len(choices) for choices in network.pairs()] == [3, 1, 1]
    for choices in network.pairs():
        for pair in choices:
            with swapped([pair]):
                assert not torch.allclose(network(images), before)
    with ANALYZE.batch_statistics(network):
        assert not torch.allclose(network(images), before)
    assert torch.equal(network(images), before)
    assert same_state(state, state_of(network))


# ------------------------------------------------------------------------------------------------------- eigenvalues


def symmetric(eigenvalues, seed):
    generator = torch.Generator().manual_seed(seed)
    size = len(eigenvalues)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.double)).Q
    return basis @ torch.diag(torch.tensor(eigenvalues, dtype=torch.double)) @ basis.T


def found_of(matrix, **how):
    start = torch.randn(len(matrix), generator=torch.Generator().manual_seed(1), dtype=torch.double)
    return largest_eigenvalue(lambda vector: matrix @ vector, start, **how)


@pytest.mark.parametrize(
    "eigenvalues",
    [
        [3.0, 1.0, -2.0, 0.5],  # the largest is the largest in magnitude
        [-5.0, 2.0, 0.5, -1.0],  # a negative one is
        [-50.0, 2.0, 0.5, -1.0],
        28 * [0.0] + [-5.0, -2.0, -1.0, 0.2, 0.1],  # as many zeros as a softmax has
        [-10.0] + 50 * [-1.0] + [0.5],
        [3.0] + 50 * [1.0],
        [2.0, -2.0, 0.5, 0.1],  # two are, of opposite sign
        [-1.0, -2.0, -3.0],  # all are negative
        [4.0, 4.0, 1.0],
        [7.0],
        [-7.0],
    ],
)
def test_the_largest_eigenvalue_is_not_the_largest_in_magnitude(eigenvalues):
    for seed in range(5):
        found = found_of(symmetric(eigenvalues, seed))
        assert found.value == pytest.approx(max(eigenvalues), rel=1e-3)
        assert found.converged
        assert found.residual <= 1e-3 * abs(found.value)


def test_what_has_not_converged_says_so():
    found = found_of(symmetric([1.0, 0.5, -2.0], seed=0), iterations=11)
    assert not found.converged
    assert found.value < 1.0
    assert found.products == 22


def test_the_largest_eigenvalue_of_zero_is_zero():
    assert found_of(torch.zeros(3, 3, dtype=torch.double))[:2] == (0, 0)


@given(st.integers(0, 10**6), st.integers(2, 8))
def test_the_residual_bounds_the_distance_to_an_eigenvalue(seed, size):
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    matrix = matrix + matrix.T
    exact, found = torch.linalg.eigvalsh(matrix), found_of(matrix, iterations=5)  # far too few to converge
    assert (exact - found.value).abs().min() <= found.residual + 1e-9
    assert found.value <= exact[-1] + 1e-9
    assert found.products <= 10


@pytest.mark.parametrize("space", ["s2", "nb201"])
def test_products_with_the_hessian_in_alpha_are_those_of_finite_differences(space):
    supernet, batch = make_supernet(space), make_images()
    product, size = alpha_hessian(supernet, batch)
    assert size == sum(alpha.numel() for alpha in supernet.alpha.values())

    def gradient():
        loss = F.cross_entropy(supernet(batch[0]), batch[1])
        return torch.cat([each.flatten() for each in torch.autograd.grad(loss, supernet.alpha_parameters())])

    columns, reach = [], 1e-6
    for alpha in supernet.alpha_parameters():
        for entry in alpha.data.view(-1).split(1):
            entry += reach
            ahead = gradient()
            entry -= 2 * reach
            columns.append((ahead - gradient()) / (2 * reach))
            entry += reach
    explicit = torch.stack(columns)
    by_products = torch.stack([product(each) for each in torch.eye(size, dtype=torch.double)])
    assert torch.allclose(by_products, explicit, atol=1e-6)
    start = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    found = largest_eigenvalue(product, start)
    assert found.value == pytest.approx(torch.linalg.eigvalsh(explicit)[-1].item(), rel=1e-3)


def test_the_hessian_of_a_supernet_with_fixed_alpha_is_that_at_zero():
    fixed, free = make_supernet(fixed_alpha=True), make_supernet(spread=0.0)
    free.load_state_dict(fixed.state_dict())
    batch, vector = make_images(), torch.ones(56, dtype=torch.double)
    assert torch.equal(alpha_hessian(fixed, batch)[0](vector), alpha_hessian(free, batch)[0](vector))


# ----------------------------------------------------------------------------------------------- Proposition 1 on maps


# The edges that do not touch the node, by node
APART_DARTS = {
    0: (1, 3, 4, 6, 7, 8, 10, 11, 12, 13),
    1: (0, 2, 4, 5, 7, 8, 9, 11, 12, 13),
    2: (2, 3, 5, 6, 8, 9, 10, 12, 13),
    3: (0, 1, 5, 6, 7, 9, 10, 11, 13),
    4: (0, 1, 2, 3, 4, 9, 10, 11, 12),
}
APART_NB201 = {0: (2, 4, 5), 1: (1, 3, 5), 2: (0, 3, 4)}


@pytest.mark.parametrize("space", ["s2", "s3", "darts+none", "nb201"])
def test_branches_are_what_the_proposition_speaks_of(space):
    """Against the first cell, written out by hand."""
    supernet, (images, _) = make_supernet(space, layers=3 if space != "nb201" else 1), make_images()
    cell, apart = supernet.skeleton.cells[0], APART_NB201 if space == "nb201" else APART_DARTS
    found = branches(supernet, images)
    weights, inputs = supernet.weights()[cell.cell_type], {}
    cell.register_forward_hook(lambda module, args, out: inputs.update(x=args[0]))
    supernet(images)
    nodes = [module(x) for module, x in zip(cell.preprocess, inputs["x"], strict=True)]
    outputs = []
    for edge, (source, node) in enumerate(supernet.space.edges):
        if node == len(nodes):
            nodes.append(0)
        outputs.append(torch.stack([operation(nodes[source]) for operation in cell.edges[edge].operations]))
        nodes[node] = nodes[node] + (weights[edge][:, None, None, None, None] * outputs[edge]).sum(0)
    cells = 1 if space != "nb201" else 1 + 1 / 2 + 1 / 4  # of this type, in the size of this one
    for edge, (source, _) in enumerate(supernet.space.edges):
        names = supernet.space.operations[cell.cell_type][edge]
        others = [index for index, name in enumerate(names) if name not in ("skip_connect", "none")]
        m = sum(standardize(outputs[other].mean(0)) for other in apart[source])
        by_hand = (group(outputs[edge][others], weights[edge][others]), nodes[source], m)
        samples = found[cell.cell_type, edge]
        for one, of_hand in zip(samples, by_hand, strict=False):
            count = of_hand.numel()
            assert torch.allclose(one[:count], standardize(of_hand).flatten(), atol=1e-9)
            assert one.mean().item() == pytest.approx(0, abs=1e-9)
            assert one.square().mean().item() == pytest.approx(1)
        assert len(samples.o) == count * cells
        assert samples.scale_o[0].item() == pytest.approx(by_hand[0].std().item())
        assert samples.scale_x[0].item() == pytest.approx(by_hand[1].std().item())


def test_measuring_branches_leaves_the_supernet_as_it_was():
    supernet, (images, _) = make_supernet("s2"), make_images()
    before, state = supernet(images), state_of(supernet)
    branches(supernet, images)
    assert same_state(state, state_of(supernet))
    assert torch.equal(supernet(images), before)
    assert not any(cell._forward_hooks for cell in supernet.skeleton.cells)


def test_decided_edges_and_edges_without_a_skip_connection_are_left_out():
    supernet, (images, _) = make_supernet("s2"), make_images()
    supernet.decide("normal", 0, 1)
    supernet.prune("normal", 5)
    found = branches(supernet, images)
    assert found.keys() == {("normal", e) for e in range(14) if e not in (0, 5)} | {("reduce", e) for e in range(14)}
    assert list(found) == branching(supernet)
    assert branching(make_supernet("s4")) == []
    # On NAS-Bench-201 a node can lose all the edges that could estimate for it.
    supernet = make_supernet("nb201", layers=1)
    for edge in (2, 4, 5):
        supernet.prune("cell", edge)
    assert branching(supernet) == [("cell", 0), ("cell", 1), ("cell", 3)]
    assert branches(supernet, images) == {}


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
    found = ANALYZE.rank_correlation(first, second)
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
    ANALYZE.strength(judge, supernet.space.cell_types[0], 1, "supernet.pt", Progress())
    assert same_state(state, state_of(supernet))
    assert torch.equal(supernet(images), before)
    assert (judge.bilevel.w_optimizer.state_dict(), judge.bilevel.steps) == optimizers
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_strength_is_what_the_supernet_reaches_with_the_operation_alone(metric):
    supernet = make_supernet("s2")
    judge = selection(supernet, metric)
    record = ANALYZE.strength(judge, "normal", 2, "supernet.pt", Progress())
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
    "proposition": ["--images", "16"],
    "hessian": ["--images", "16"],
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


@pytest.mark.parametrize("command", ["fig1", "fig2", "proposition", "hessian", "table1"])
def test_the_commands_work_on_nas_bench_201(command, folder, tmp_path):
    found = numbers(folder, tmp_path, command, "--ckpt", str(folder / "nb201.pt"))
    count = {"fig1": 2, "fig2": 6, "proposition": 1, "hessian": 2, "table1": 9}[command]
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


def test_what_an_earlier_table1_has_left_is_moved_aside_at_once(folder, tmp_path, monkeypatch):
    """As a run that is stopped while VGG is trained would go on with the ResNet of another."""
    names = [f"table1.{name}" for name in ("json", "pt", "vgg.pt", "resnet.pt", "resnet.jsonl")]
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.setattr(ANALYZE, "shuffle", lambda *_: None)
    line = ["table1", "--ckpt", str(folder / "supernet.pt"), "--save", str(tmp_path / "table1.png")]
    assert ANALYZE.main([*line, "--threads", "1"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {name.replace("table1", "table1.1") for name in names}


def test_table1_measures_before_and_after_every_shuffle(folder, tmp_path, capsys):
    found = numbers(folder, tmp_path, "table1", "--ckpt", str(folder / "supernet.pt"))
    order = [(each["network"], each["shuffle"]) for each in found["measured"]]
    assert order == [(kind, n) for kind in ("VGG", "ResNet", "DARTS supernet") for n in range(3)]
    supernet = [each for each in found["measured"] if each["network"] == "DARTS supernet"]
    assert all(each["test_accuracy"] == each["with_batch_statistics"] for each in supernet)  # it has no others
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
    usual = found["summary"]["ResNet"]["test_accuracy"]
    assert usual["after"] == [each["test_accuracy"] for each in found["measured"][4:6]]
    assert usual["mean"] == pytest.approx(sum(usual["after"]) / 2)
    # Networks that are there are loaded, not trained again.
    files = [tmp_path / f"table1.{kind}.pt" for kind in ("vgg", "resnet")]
    trained = [runs.fingerprint(path) for path in files]
    (tmp_path / "table1.pt").unlink()
    again = numbers(folder, tmp_path, "table1", "--ckpt", str(folder / "supernet.pt"), "--resume")
    assert again["summary"] == found["summary"]
    assert trained == [runs.fingerprint(path) for path in files]


def test_the_proposition_is_computed_from_the_variances(folder, tmp_path):
    found = numbers(folder, tmp_path, "proposition", "--ckpt", str(folder / "supernet.pt"))
    (record,) = found["measured"]
    assert len(record["edges"]) == len(record["untrained"]) == 28
    closer = sum(each["var_skip"] < each["var_conv"] for each in record["edges"])
    assert found["summary"]["supernet.pt"]["edges"]["skip_closer"] == closer
    checkpoint = runs.load_checkpoint(folder / "supernet.pt", "supernet")
    weights = checkpoint["records"][-1]["weights"]  # skip_connect is the first of two operations
    for each in record["edges"]:
        assert each["optimal_skip"] == pytest.approx(min(max(each["theta_skip"], 0), 1))
        assert each["learnt_weight"] == pytest.approx(
            weights[each["cell"]][SPACES["s2"].edges.index((*each["edge"],))][0]
        )
        # Both variances are about m*, and all samples have variance 1: the closer branch has the larger weight.
        assert (each["var_skip"] < each["var_conv"]) == (each["theta_skip"] > 0.5)


def test_the_hessian_is_measured_at_every_kept_epoch(folder, tmp_path):
    found = numbers(folder, tmp_path, "hessian", "--ckpt", str(folder / "supernet.pt"))
    assert [each["epoch"] for each in found["measured"]] == [1, 2]
    checkpoint = runs.load_checkpoint(folder / "supernet.epoch001.pt", "supernet")
    data = load_data({"dataset": "digits", "seed": 0, "limit": 64}, torch.device("cpu"))
    network = SearchSettings.of(checkpoint["settings"]).supernet(SPACES["s2"], 10, 1)
    network.load_state_dict(checkpoint["state"]["bilevel"]["supernet"])
    product, size = alpha_hessian(network, next(data.halve(0)[1].clean(16)))
    exact = torch.linalg.eigvalsh(torch.stack([product(each) for each in torch.eye(size)]))
    assert found["measured"][0]["eigenvalue"] == pytest.approx(exact[-1].item(), rel=0.02)


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


@pytest.mark.parametrize("command", ["fig1", "hessian"])
def test_a_stopped_measurement_goes_on_as_if_nothing_had_happened(command, folder, tmp_path, monkeypatch):
    arguments = [command, "--ckpt", str(folder / "supernet.pt"), *FIGURES[command]]
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


def test_what_cannot_be_measured_is_told_in_one_line(folder, tmp_path, capsys):
    save = ["--save", str(tmp_path / "figure.png")]
    (tmp_path / "text.jsonl").write_text("no log\n")
    names = {name: ["--ckpt", str(folder / f"{name}.pt")] for name in ("supernet", "nb201", "fixed", "s4", "decided")}
    cases = (
        (["fig1", *names["fixed"], *save], "kept α at 0"),
        (["fig1", "--ckpt", str(folder / "none.pt"), *save], "there is no file"),
        (["fig1", *names["decided"], *save], "were decided during the search"),
        (["fig1", "--ckpt", str(folder / "supernet.pt"), str(folder / "nb201.pt"), *save], "of different"),
        (["fig1", "--ckpt", str(folder / "supernet.pt"), str(folder / "supernet.pt"), *save], "the same file name"),
        (["fig1", "--dataset", "digits", *save], "for the supernets that --ckpt names"),
        (["fig1", *names["supernet"], "--dataset", "nothing", *save], "no data set"),
        (["fig2", *names["decided"], *save], "were decided during the search"),
        (["fig2", *names["nb201"], "--cell", "reduce", *save], "the space nb201 has cell"),
        (["fig2", "--ckpt", str(folder / "supernet.pt"), str(folder / "other.pt"), *save], "unrecognized"),
        (["fig3", str(tmp_path / "none.jsonl"), *save], "there is no log"),
        (["fig3", str(tmp_path / "text.jsonl"), *save], "not the log of a search"),
        (["fig3", str(folder / "s4.jsonl"), *save], "no edge has both"),
        (["proposition", *names["s4"], *save], "no undecided edge has skip_connect"),
        (["proposition", *names["fixed"], *save], "kept α at 0"),
        (["hessian", *names["decided"], *save], "does not depend on α"),
        (["table1", *names["supernet"], "--layers", "2", *save], "at least 3"),
        (["fig1", *names["supernet"], "--save", str(folder / "supernet.png")], "not that of a run"),
        (["fig3", str(folder / "supernet.jsonl"), "--save", str(folder / "supernet.png")], "not that of a run"),
        (["hessian", *names["supernet"], "--save", str(tmp_path / "figure.json")], "ends in .png"),
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


def test_a_result_of_other_settings_is_not_resumed_but_kept(folder, tmp_path, capsys):
    save, ckpt = tmp_path / "hessian.png", ["--ckpt", str(folder / "supernet.pt")]
    assert ANALYZE.main(["hessian", *ckpt, "--images", "16", "--save", str(save)]) == 0
    first = save.with_suffix(".json").read_text()
    assert ANALYZE.main(["hessian", *ckpt, "--images", "8", "--save", str(save), "--resume"]) == 2
    assert "was begun with images 16, and now it is 8" in capsys.readouterr().err
    assert ANALYZE.main(["hessian", *ckpt, "--images", "8", "--save", str(save)]) == 0
    assert (tmp_path / "hessian.1.json").read_text() == first
    for command in (["fig3", str(folder / "supernet.jsonl")], ["proposition", *ckpt], ["cells"]):
        assert ANALYZE.main([*command, "--save", str(save)]) == 2
        assert "not that of a run" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "name"), [("fig1", "s1"), ("fig2", "s3"), ("fig1", "s4"), ("hessian", "s4")])
def test_the_commands_work_on_every_space(command, name, folder, tmp_path):
    assert numbers(folder, tmp_path, command, "--ckpt", str(folder / f"{name}.pt"))["measured"]


@pytest.mark.parametrize("command", ["hessian", "proposition"])
def test_several_supernets_stand_beside_each_other(command, folder, tmp_path):
    paths = [str(folder / name) for name in ("supernet.pt", "other.pt")]
    found = numbers(folder, tmp_path, command, "--ckpt", *paths)
    assert list(dict.fromkeys(each["supernet"] for each in found["measured"])) == ["supernet.pt", "other.pt"]


def test_of_an_sgas_search_the_epochs_with_undecided_edges_are_measured(tmp_path, capsys):
    path = tmp_path / "sgas.pt"
    options = ["--space", "nb201", "--sgas", "magnitude", *SMALL, "--epochs", "8"]
    assert TRAIN.main([*options, "--save", str(path)]) == 0
    found = numbers(tmp_path, tmp_path, "hessian", "--ckpt", str(path))
    left = {
        epoch: any(
            not decided
            for _, decided in runs.load_checkpoint(kept, "supernet")["state"]["bilevel"]["supernet"]["_extra_state"][
                "cell"
            ]
        )
        for epoch, kept in runs.snapshots(path).items()
    }
    assert [each["epoch"] for each in found["measured"]] == [epoch for epoch, any_left in left.items() if any_left]
    assert 1 < len(found["measured"]) < 8
    for epoch in (found["measured"][-1]["epoch"],):
        assert numbers(tmp_path, tmp_path, "fig1", "--ckpt", str(runs.snapshot(path, epoch)))["measured"]


def test_other_data_of_the_same_classes_can_be_measured_on(folder, tmp_path, monkeypatch, capsys):
    images = tmp_path / "images"
    digits = load_digits()
    for part in ("train", "test"):
        for index in range(60):
            place = images / part / str(digits.target[index])
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray((digits.images[index] * 15).astype("uint8")).save(place / f"{index}.png")
    ckpt = ["--ckpt", str(folder / "supernet.pt")]
    save = tmp_path / "proposition.png"
    assert ANALYZE.main(["proposition", *ckpt, "--images", "16", "--save", str(save)]) == 0
    more = ["--dataset", str(images), "--images", "16", "--save", str(save)]
    assert ANALYZE.main(["proposition", *ckpt, *more, "--resume"]) == 2
    assert "was begun with datasets" in capsys.readouterr().err
    orders = []

    def seen(network, data, size, progress):
        orders.append(data.labels[data.indices].tolist())
        return evaluate(network, data, size, progress=progress)

    monkeypatch.setattr(ANALYZE, "evaluate", seen)
    found = numbers(folder, tmp_path, "table1", *ckpt, "--dataset", str(images))
    # A folder is in the order of its classes, and batches of one class have other statistics.
    assert len(orders) == 15
    assert all(order == orders[0] != sorted(order) for order in orders)
    assert found["datasets"] == [str(images)]
    assert runs.load_checkpoint(tmp_path / "table1.vgg.pt", "network")["settings"]["dataset"] == str(images)
    assert "on images, 2 shuffles" in capsys.readouterr().out


def test_an_unfinished_supernet_is_measured_with_a_note(folder, tmp_path, capsys):
    content = runs.load_checkpoint(folder / "supernet.epoch001.pt", "supernet")
    assert not content["finished"]
    assert numbers(folder, tmp_path, "proposition", "--ckpt", str(folder / "supernet.epoch001.pt"))["measured"]
    assert "is the supernet after 1 of 2 epochs" in capsys.readouterr().err
