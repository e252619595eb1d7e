"""The other ways to train a supernet: SDARTS-RS (A.1.2) and SGAS (A.1.3)."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import ptnas
from genotypes import SPACES, Space
from ptnas import Bilevel, Measurement, Network, SearchSettings, Sgas, decide_edge, distorted, noise_scale, sgas_scores
from tests.conftest import Batches, make_images, make_supernet

DATA = Batches(*make_images(12))

# ------------------------------------------------------------------------------------------------------- SDARTS-RS


@given(
    noise=st.sampled_from(["gaussian", "uniform"]),
    scale=st.floats(0, 20),
    spread=st.floats(0, 30),
    seed=st.integers(0, 100),
)
def test_noisy_rows_lie_in_0_to_1_and_sum_to_one(noise, scale, spread, seed):
    weights = make_supernet("s3", channels=2, seed=seed, spread=spread).weights()
    for rows in distorted(weights, noise, scale).values():
        assert ((rows >= 0) & (rows <= 1)).all()
        torch.testing.assert_close(rows.sum(-1), torch.ones(len(rows), dtype=rows.dtype))


@pytest.mark.parametrize(("noise", "draw"), [("gaussian", torch.randn_like), ("uniform", torch.rand_like)])
def test_noise_is_added_clipped_and_divided_by_the_sum_of_the_row(monkeypatch, noise, draw):
    drawn = torch.tensor([[0.5, -1.0, 1.5], [-1.0, -1.0, -0.8], [-9.0, -8.0, -7.0]]).double()
    monkeypatch.setattr(torch, draw.__name__, lambda rows: drawn if noise == "gaussian" else (drawn + 1) / 2)
    rows = torch.tensor([[0.2, 0.3, 0.5], [0.3, 0.6, 0.1], [0.6, 0.3, 0.1]]).double()
    noisy = distorted({"normal": rows}, noise, 0.4)["normal"]
    # 0.2 + 0.2, 0.3 - 0.4 < 0, 0.5 + 0.6 > 1;  0.3 - 0.4 < 0, 0.6 - 0.4, 0.1 - 0.32 < 0;  nothing above 0
    wanted = torch.tensor([[0.4 / 1.4, 0, 1 / 1.4], [0, 1, 0], [0, 0, 1]]).double()
    torch.testing.assert_close(noisy, wanted)


def test_the_two_forms_of_noise_have_the_scale_that_they_say():
    rows = {"normal": torch.full((20_000, 2), 0.5).double()}
    torch.manual_seed(0)
    deviation = {name: distorted(rows, name, 0.05)["normal"][:, 0] - 0.5 for name in ("gaussian", "uniform")}
    # Dividing by the sum leaves (a - b) / 2 of two draws to first order, whose deviation is 1 / sqrt 2 of that of one.
    assert deviation["gaussian"].std().item() == pytest.approx(0.05 / math.sqrt(2), rel=0.03)
    assert deviation["uniform"].std().item() == pytest.approx(0.05 / math.sqrt(3) / math.sqrt(2), rel=0.03)
    assert deviation["uniform"].abs().max() <= 0.05 / 0.9


@pytest.mark.parametrize("noise", ["gaussian", "uniform"])
def test_noise_leaves_alpha_and_its_gradient_untouched_and_changes_the_step_of_w(noise):
    plain = Bilevel(make_supernet(), SearchSettings(), lr=0.1)
    noisy = Bilevel(make_supernet(), SearchSettings(noise=noise), lr=0.1, scale=0.3)
    train, valid = make_images(12), make_images(12, seed=1)
    for order in (plain.alpha_gradient, plain.unrolled):
        same = getattr(noisy, order.__name__)(train, valid)
        assert all(torch.equal(a, b) for a, b in zip(order(train, valid), same, strict=True))
    before = [alpha.clone() for alpha in noisy.alpha]
    torch.manual_seed(0)
    noisy.w_step(train)
    plain.w_step(train)
    assert all(torch.equal(alpha, former) for alpha, former in zip(noisy.alpha, before, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(noisy.w, plain.w, strict=True))


def test_the_step_of_w_is_that_of_the_loss_with_noisy_weights():
    bilevel, train = Bilevel(make_supernet(), SearchSettings(noise="uniform", clip=math.inf), 0.1, 0.2), make_images(12)
    twin = copy.deepcopy(bilevel.supernet)
    torch.manual_seed(3)
    logits = bilevel.w_step(train)
    torch.manual_seed(3)
    noisy = twin(train[0], weights=distorted(twin.weights(), "uniform", 0.2))
    assert torch.equal(logits, noisy)
    wanted = torch.autograd.grad(F.cross_entropy(noisy, train[1]), twin.weight_parameters())
    assert all(torch.equal(w.grad, gradient) for w, gradient in zip(bilevel.w, wanted, strict=True))


def test_noise_grows_over_the_search_and_stays_in_tuning_and_measuring_has_none(monkeypatch):
    assert [noise_scale(epoch, 50) for epoch in (0, 25)] == pytest.approx([0.03, 0.165])
    assert noise_scale(49, 50) == pytest.approx(0.03 + 0.27 * 0.98)
    scales = []
    monkeypatch.setattr(ptnas, "distorted", lambda weights, noise, scale: scales.append(scale) or weights)
    settings = SearchSettings(epochs=2, noise="gaussian")
    supernet = make_supernet()
    search = ptnas.Search(supernet, settings, DATA, DATA)
    search.step()
    search.step()
    tuning = ptnas.Selection(supernet, settings, ptnas.SelectionSettings(tune_epochs=2), DATA, DATA)
    tuning.step()
    assert scales == pytest.approx([0.03, 0.165, 0.165, 0.165]), "a step an epoch, none while something is measured"
    scales.clear()
    how = ptnas.SelectionSettings(tune_epochs=1, criterion="discretization")
    ptnas.Selection(make_supernet(), settings, how, DATA, DATA, trained=1).step()
    assert scales == pytest.approx([0.03] * 5), "of a snapshot its own last scale; two trials a cell and the round"


def test_discretisation_compares_operations_under_the_same_noise(monkeypatch):
    drawn = []
    monkeypatch.setattr(ptnas, "distorted", lambda weights, noise, scale: drawn.append(torch.rand(1).item()) or weights)
    settings = SearchSettings(epochs=2, noise="gaussian")
    how = ptnas.SelectionSettings(tune_epochs=2, criterion="discretization")
    ptnas.Selection(make_supernet(), settings, how, DATA, DATA).step()
    assert drawn[:2] == drawn[2:4] == drawn[4:6] == drawn[6:8]
    assert drawn[0] != drawn[1]


# ------------------------------------------------------------------------------------------------------------ SGAS


def space_of(*rows):
    """A space whose cells have a node 2 with as many inputs as there are rows."""
    edges = tuple((source, len(rows)) for source in range(len(rows)))
    return Space("mine", "darts", edges, {"normal": rows, "reduce": rows}, topology=True, none_allowed=False)


def scores_of(space, *probabilities):
    supernet = make_supernet(space, channels=2)
    with torch.no_grad():
        supernet.alpha["normal"].copy_(torch.tensor(probabilities).double().log())
    return sgas_scores(supernet, "normal")


def test_the_score_of_sgas_is_importance_times_certainty_by_hand():
    row = ("none", "skip_connect", "sep_conv_3x3")
    scores = scores_of(space_of(row, row), [0.5, 0.25, 0.25], [0.2, 0.72, 0.08])
    certain = 1 - -(0.9 * math.log2(0.9) + 0.1 * math.log2(0.1))
    assert scores[0].measured == pytest.approx({"score": 0.0, "importance": 0.5, "certainty": 0.0}, abs=1e-9)
    assert scores[1].measured == pytest.approx({"score": 1.0, "importance": 0.8, "certainty": certain})
    # between the extremes, in both factors
    rows = [[0.5, 0.25, 0.25], [0.2, 0.72, 0.08], [0.4, 0.48, 0.12]]
    scores = scores_of(SPACES["s3"], *rows, *(11 * [[0.5, 0.4, 0.1]]))
    middle = 1 - -(0.8 * math.log2(0.8) + 0.2 * math.log2(0.2))
    assert scores[2].rank[0] == pytest.approx(((0.6 - 0.5) / (0.8 - 0.5)) * (middle / certain))


def test_without_none_the_importance_is_the_same_everywhere_and_certainty_alone_counts():
    row = ("skip_connect", "sep_conv_3x3")
    scores = scores_of(space_of(row, row), [0.5, 0.5], [0.9, 0.1])
    assert [score.rank[0] for score in scores] == pytest.approx([0, 1])
    assert [score.measured["importance"] for score in scores] == pytest.approx([1, 1])


def test_where_certainty_is_the_same_everywhere_importance_alone_counts():
    row = ("none", "skip_connect", "sep_conv_3x3")
    scores = scores_of(space_of(row, row), [0.6, 0.2, 0.2], [0.2, 0.4, 0.4])
    assert [score.rank[0] for score in scores] == pytest.approx([0, 1])
    single = ("none", "sep_conv_3x3")
    scores = scores_of(space_of(single, single), [0.6, 0.4], [0.2, 0.8])
    assert [score.measured["certainty"] for score in scores] == [1, 1], "a single operation is certain"
    assert [score.rank[0] for score in scores] == pytest.approx([0, 1])


def test_where_both_are_the_same_every_edge_scores_one():
    assert {score.rank for score in sgas_scores(make_supernet("darts", fixed_alpha=True), "reduce")} == {(1.0,)}


@pytest.mark.parametrize(
    ("space", "epochs", "wanted"),
    [
        ("darts", 50, [10, 15, 20, 25, 30, 35, 40, 45]),
        ("s2", 30, [6, 9, 12, 15, 18, 21, 24, 27]),
        ("nb201", 30, [6, 10, 14, 18, 22, 26]),
        ("s4", 3, [1, 1, 1, 1, 1, 2, 2, 2]),
        ("s4", 1, [1] * 8),
    ],
)
def test_the_schedule_of_sgas(space, epochs, wanted):
    search = Sgas(make_supernet(space, channels=2), SearchSettings(epochs=epochs), DATA, DATA)
    assert search.schedule == wanted


def unmeasured(monkeypatch):
    """Epochs of SGAS without training and measuring; returns the sizes of their batches."""
    sizes = []

    def epoch(self, train, valid, epoch, progress):
        sizes.append(self.batch_size)
        return Measurement(0.0, 0.0)

    monkeypatch.setattr(Bilevel, "epoch", epoch)
    monkeypatch.setattr(ptnas, "evaluate", lambda *_, **__: Measurement(0.0, 0.0))
    return sizes


@given(space=st.sampled_from(sorted(SPACES)), seed=st.integers(0, 1000))
def test_sgas_decides_an_edge_of_each_cell_a_round_and_ends_with_the_inputs_that_nodes_keep(space, seed):
    with pytest.MonkeyPatch.context() as monkeypatch:
        sizes = unmeasured(monkeypatch)
        supernet = make_supernet(space, channels=2, seed=seed)
        space = supernet.space
        rounds = sum(space.keeps(node) for node in space.nodes)
        search = Sgas(supernet, SearchSettings(epochs=5 * rounds, sgas="magnitude"), DATA, DATA)
        for epoch in range(1, search.total + 1):
            scores = {cell_type: sgas_scores(supernet, cell_type) for cell_type in space.cell_types}
            open_before = {cell_type: supernet.undecided(cell_type) for cell_type in space.cell_types}
            made = [each for each in search.step()["decisions"] if "edge" in each]
            due = epoch in search.schedule
            assert [each["cell"] for each in made] == list(space.cell_types if due else ())
            for each in made:
                cell_type, edge = each["cell"], space.edges.index(tuple(each["edge"]))
                assert scores[cell_type][edge].rank == max(scores[cell_type][e].rank for e in open_before[cell_type])
                weights = supernet.weights()[cell_type][edge].tolist()
                eligible = space.candidates(cell_type, edge)
                best = max(eligible, key=weights.__getitem__)
                assert each["operation"] == space.operations[cell_type][edge][best]
    assert rounds == (6 if space.name == "nb201" else 8)
    assert sizes == [64 + 8 * sum(epochs <= done for epochs in search.schedule) for done in range(search.total)]
    for cell_type in space.cell_types:
        assert not supernet.undecided(cell_type)
        for node in space.nodes:
            inputs = supernet.inputs(cell_type, node)
            assert len(inputs) == space.keeps(node)
            pruned = [d for d in search.decisions if d["cell"] == cell_type and d.get("node") == node]
            assert len(pruned) == (len(space.into(node)) > len(inputs))
            assert all(d["inputs"] == [space.edges[edge][0] for edge in inputs] for d in pruned)
    supernet.genotype()


def test_sgas_by_perturbation_decides_what_a_selection_would(monkeypatch):
    supernet = make_supernet("s2")
    twin = copy.deepcopy(supernet)
    monkeypatch.setattr(Bilevel, "epoch", lambda *_: Measurement(0.0, 0.0))
    search = Sgas(supernet, SearchSettings(epochs=8, sgas="perturbation", sgas_metric="loss"), DATA, DATA)
    made = search.step()["decisions"]
    assert len(made) == 2
    judge = ptnas.Selection(twin, SearchSettings(), ptnas.SelectionSettings(metric="loss"), DATA, DATA)
    for each in made:
        edge = twin.space.edges.index(tuple(each["edge"]))
        figures = each.pop("sgas")
        assert figures == sgas_scores(twin, each["cell"])[edge].measured
        assert decide_edge(judge, "perturbation", each["cell"], edge) == each


def test_the_alpha_of_a_decided_edge_stays_as_it_is():
    supernet = make_supernet("s2")
    bilevel = Bilevel(supernet, SearchSettings(alpha_lr=0.1), lr=0.1)
    images = make_images(12)
    bilevel.alpha_step(images, images)
    supernet.decide("normal", 3, 1)
    supernet.prune("normal", 5)
    before = {cell_type: alpha.detach().clone() for cell_type, alpha in supernet.alpha.items()}
    bilevel.alpha_step(images, images)
    moved = (supernet.alpha["normal"] != before["normal"]).any(dim=1).tolist()
    assert [edge for edge, each in enumerate(moved) if not each] == [3, 5]
    assert (supernet.alpha["reduce"] != before["reduce"]).all()


@pytest.mark.parametrize("criterion", ["magnitude", "perturbation"])
@pytest.mark.parametrize("stopped_after", [1, 3, 5])
def test_sgas_continues_in_the_middle_of_its_decisions(criterion, stopped_after):
    data = Batches(*make_images(24, dtype=torch.float))
    settings = SearchSettings(epochs=6, batch_size=8, sgas=criterion, noise="uniform")

    def begin():
        return Sgas(make_supernet("s4").float(), settings, data, data)

    def steps(search, until=6):
        records = []
        while search.done < until:
            torch.manual_seed(search.done)  # of the noise
            records.append(search.step())
        return records

    through, stopped, resumed = begin(), begin(), begin()
    records = steps(through)
    steps(stopped, until=stopped_after)
    resumed.load_state_dict(copy.deepcopy(stopped.state_dict()))
    assert steps(resumed) == records[stopped_after:]
    assert resumed.decisions == through.decisions
    assert resumed.supernet.genotype() == through.supernet.genotype()


@pytest.mark.parametrize("space", ["s2", "s3", "nb201"])
def test_a_search_with_every_edge_decided_equals_the_discrete_network_with_the_same_weights(space):
    torch.manual_seed(0)
    layers = 1 if space == "nb201" else 3
    supernet = make_supernet(space, layers=layers, fixed_alpha=False)
    search = Sgas(supernet, SearchSettings(epochs=4, sgas="magnitude", lr=0.1), DATA, DATA)
    for _ in range(search.total):
        search.step()
    genotype = supernet.genotype()
    network = Network(genotype, layers, 4, 3, 1).double()
    for own, cell in zip(network.skeleton.cells, supernet.skeleton.cells, strict=True):
        copy_weights(own.preprocess, cell.preprocess)
        plan = genotype.cells[cell.cell_type].operations
        for operation, (name, source, node) in zip(own.operations, plan, strict=True):
            edge = supernet.space.edges.index((source, node))
            index = supernet.space.operations[cell.cell_type][edge].index(name)
            copy_weights(operation, cell.edges[edge].operations[index])
    for part in ("stem", "classifier", *(("residual_blocks", "head") if space == "nb201" else ())):
        copy_weights(getattr(network.skeleton, part), getattr(supernet.skeleton, part))
    images, _ = make_images(8, seed=5)
    torch.testing.assert_close(network.train()(images)[0], supernet(images))


def copy_weights(to, of):
    """Of all convolutions and linear layers, and of the norms that have some in both."""
    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
    pairs = [[module for module in each.modules() if isinstance(module, kinds)] for each in (to, of)]
    for target, source in zip(*pairs, strict=True):
        if list(source.parameters()):
            target.load_state_dict(source.state_dict(), strict=False)
