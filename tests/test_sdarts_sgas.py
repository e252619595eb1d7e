"""The other ways to train a supernet: SDARTS-RS (A.1.2) and SGAS (A.1.3)."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import ptnas
from genotypes import SPACES, Space
from ptnas import Bilevel, Measurement, SearchSettings, decide_edge, schedule_sgas, score_edges, search_sgas
from tests.conftest import Batches, make_images, make_supernet
from tests.test_steps import make_judge, play, take_steps

DATA = Batches(*make_images(12))


# ---- SDARTS-RS


@given(
    noise=st.sampled_from(["gaussian", "uniform"]), scale=st.floats(0, 20), spread=st.floats(0, 30),
    seed=st.integers(0, 100),
)  # fmt: skip
def test_noisy_rows_lie_in_0_to_1_and_sum_to_one(noise, scale, spread, seed):
    torch.manual_seed(seed)
    weights = {"normal": torch.softmax(spread * torch.randn(14, 3).double(), -1)}
    rows = ptnas.distort(weights, noise, scale)["normal"]
    assert ((rows >= 0) & (rows <= 1)).all()
    torch.testing.assert_close(rows.sum(-1), torch.ones(14).double())


@pytest.mark.parametrize(("noise", "draw"), [("gaussian", torch.randn_like), ("uniform", torch.rand_like)])
def test_noise_is_added_clipped_and_divided_by_the_sum_of_the_row(monkeypatch, noise, draw):
    drawn = torch.tensor([[0.5, -1.0, 1.5], [-1.0, -1.0, -0.8], [-9.0, -8.0, -7.0]]).double()
    monkeypatch.setattr(torch, draw.__name__, lambda rows: drawn if noise == "gaussian" else (drawn + 1) / 2)
    rows = torch.tensor([[0.2, 0.3, 0.5], [0.3, 0.6, 0.1], [0.6, 0.3, 0.1]]).double()
    noisy = ptnas.distort({"normal": rows}, noise, 0.4)["normal"]
    # 0.2 + 0.2, 0.3 - 0.4 < 0, 0.5 + 0.6 > 1;  0.3 - 0.4 < 0, 0.6 - 0.4, 0.1 - 0.32 < 0;  nothing above 0
    wanted = torch.tensor([[0.4 / 1.4, 0, 1 / 1.4], [0, 1, 0], [0, 0, 1]]).double()
    torch.testing.assert_close(noisy, wanted)


def test_the_two_kinds_of_noise_have_the_scale_that_they_say():
    rows = {"normal": torch.full((20_000, 2), 0.5).double()}
    torch.manual_seed(0)
    deviation = {name: ptnas.distort(rows, name, 0.05)["normal"][:, 0] - 0.5 for name in ("gaussian", "uniform")}
    # Dividing by the sum leaves (a - b) / 2 of two draws to first order. Its deviation is 1 / sqrt 2 of that of one.
    assert deviation["gaussian"].std().item() == pytest.approx(0.05 / math.sqrt(2), rel=0.03)
    assert deviation["uniform"].std().item() == pytest.approx(0.05 / math.sqrt(3) / math.sqrt(2), rel=0.03)
    assert deviation["uniform"].abs().max() <= 0.05 / 0.9


def test_the_step_of_w_is_that_of_the_loss_with_noisy_weights_and_alpha_has_no_noise():
    settings, train, valid = SearchSettings(noise="uniform", clip=math.inf), make_images(12), make_images(12, seed=1)
    bilevel, plain = Bilevel(make_supernet(), settings), Bilevel(make_supernet(), SearchSettings())
    bilevel.noise_scale = 0.2
    for batches in ((valid,), (train, valid)):
        name = "compute_gradient" if len(batches) == 1 else "compute_unrolled_gradient"
        gradients = [getattr(each, name)(*batches) for each in (bilevel, plain)]
        assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
    twin = copy.deepcopy(bilevel.supernet)
    torch.manual_seed(3)
    logits = bilevel.step_w(train)
    torch.manual_seed(3)
    noisy = twin(train[0], theta=ptnas.distort(twin.theta(), "uniform", 0.2))
    assert torch.equal(logits, noisy)
    wanted = torch.autograd.grad(F.cross_entropy(noisy, train[1]), twin.weight_parameters())
    assert all(torch.equal(w.grad, gradient) for w, gradient in zip(bilevel.w, wanted, strict=True))


@pytest.fixture
def watch_noise(monkeypatch):
    """Lists the scale of each distortion, with a draw from the generator."""
    seen = []
    monkeypatch.setattr(ptnas, "distort", lambda rows, _, scale: seen.append((scale, torch.rand(1).item())) or rows)
    return seen


def test_noise_grows_over_the_search_is_largest_in_tuning_and_measuring_has_none(watch_noise):
    assert [ptnas.grow_noise(epoch, 50) for epoch in (0, 25, 49)] == pytest.approx([0.03, 0.165, 0.2946])
    settings, supernet = SearchSettings(epochs=2, noise="gaussian"), make_supernet()
    bilevel = Bilevel(supernet, settings)
    take_steps(ptnas.search(bilevel, DATA, DATA))
    bilevel.start_tuning()
    play(ptnas.Judge(bilevel, ptnas.SelectionSettings(tune_epochs=2), DATA, DATA), until=1)
    assert [scale for scale, _ in watch_noise] == pytest.approx([0.03, 0.165, 0.3, 0.3])


def test_discretization_compares_operations_under_the_same_noise(watch_noise):
    search = SearchSettings(epochs=2, noise="gaussian")
    judge = make_judge(make_supernet(), search=search, tune_epochs=2, criterion="discretization")
    for _ in range(2):
        watch_noise.clear()
        play(judge, until=1)
        copies = [watch_noise[start : start + 2] for start in (0, 2, 4, 6)]  # two operations in each of two cells
        assert copies == 4 * copies[:1]
        assert copies[0][0] != copies[0][1], "every epoch draws anew"
        assert len(watch_noise) == 10


# ---- SGAS


def make_scores(*probabilities, names=("none", "skip_connect", "sep_conv_3x3")):
    """Returns the scores of the edges of a node, from softmax(α) of each."""
    edges = tuple((source, len(probabilities)) for source in range(len(probabilities)))
    rows = (names,) * len(edges)
    space = Space("mine", "darts", edges, {"normal": rows, "reduce": rows}, topology=True, none_allowed=False)
    supernet = make_supernet(space, channels=2)
    with torch.no_grad():
        supernet.alpha["normal"].copy_(torch.tensor(probabilities).double().log())
    return score_edges(supernet, "normal")


def test_the_score_of_sgas_is_importance_times_certainty_by_hand():
    first, second, third = make_scores([0.5, 0.25, 0.25], [0.2, 0.72, 0.08], [0.4, 0.48, 0.12])
    certain, middle = (1 + p * math.log2(p) + (1 - p) * math.log2(1 - p) for p in (0.9, 0.8))
    assert first.measured == pytest.approx({"score": 0.0, "importance": 0.5, "certainty": 0.0}, abs=1e-9)
    assert second.measured == pytest.approx({"score": 1.0, "importance": 0.8, "certainty": certain})
    assert third.rank[0] == pytest.approx(((0.6 - 0.5) / (0.8 - 0.5)) * (middle / certain))


@pytest.mark.parametrize(
    ("names", "probabilities", "factor", "value"),
    [
        (("skip_connect", "sep_conv_3x3"), ([0.5, 0.5], [0.9, 0.1]), "importance", 1),
        (("none", "sep_conv_3x3"), ([0.6, 0.4], [0.2, 0.8]), "certainty", 1),  # a single operation is certain
        (("none", "skip_connect", "sep_conv_3x3"), ([0.6, 0.2, 0.2], [0.2, 0.4, 0.4]), "certainty", 0),
    ],
)
def test_where_one_factor_is_equal_on_all_edges_the_other_alone_counts(names, probabilities, factor, value):
    scores = make_scores(*probabilities, names=names)
    assert [score.measured[factor] for score in scores] == pytest.approx([value, value])
    assert [score.rank[0] for score in scores] == pytest.approx([0, 1])
    assert {score.rank for score in score_edges(make_supernet("darts", fixed_alpha=True), "reduce")} == {(1.0,)}


@pytest.mark.parametrize(
    ("space", "epochs", "wanted"),
    [
        ("darts", 50, [10, 15, 20, 25, 30, 35, 40, 45]),
        ("nb201", 30, [6, 10, 14, 18, 22, 26]),
        ("s4", 3, [1, 1, 1, 1, 1, 2, 2, 2]),
    ],
)
def test_the_schedule_of_sgas(space, epochs, wanted):
    assert schedule_sgas(SPACES[space], epochs) == wanted


@given(space=st.sampled_from(sorted(SPACES)), seed=st.integers(0, 1000))
def test_sgas_decides_an_edge_of_each_cell_a_round_and_ends_with_the_inputs_that_nodes_keep(space, seed):
    supernet, sizes, nothing = make_supernet(space, channels=2, seed=seed), [], Measurement(0.0, 0.0, 0.0)
    space, made = supernet.space, []
    rounds = sum(space.keeps(node) for node in space.nodes)
    epochs = 5 * rounds
    schedule = schedule_sgas(space, epochs)
    steps = search_sgas(Bilevel(supernet, SearchSettings(epochs=epochs, sgas="magnitude")), DATA, DATA)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Bilevel, "train_epoch", lambda self, *_: sizes.append(self.batch_size) or nothing)
        monkeypatch.setattr(ptnas, "evaluate", lambda *_: [nothing])
        for epoch in range(epochs):
            scores = {cell_type: score_edges(supernet, cell_type) for cell_type in space.cell_types}
            left = {cell_type: supernet.undecided(cell_type) for cell_type in space.cell_types}
            decisions = next(steps)["decisions"]
            edges = [each for each in decisions if "edge" in each]
            assert [each["cell"] for each in edges] == list(space.cell_types if epoch + 1 in schedule else ())
            for each in edges:
                cell_type, edge = each["cell"], space.edges.index(tuple(each["edge"]))
                assert scores[cell_type][edge].rank == max(scores[cell_type][e].rank for e in left[cell_type])
                best = max(space.candidates(cell_type, edge), key=supernet.theta()[cell_type][edge].__getitem__)
                assert each["operation"] == space.operations[cell_type][edge][best]
            made += decisions
    assert rounds == (6 if space.family == "nb201" else 8)
    assert sizes == [64 + 8 * sum(after <= done for after in schedule) for done in range(epochs)]
    supernet.genotype()  # every node has the inputs that it keeps
    for cell_type in space.cell_types:
        for node in space.nodes:
            inputs = [space.edges[edge][0] for edge in supernet.inputs(cell_type, node)]
            pruned = [each["inputs"] for each in made if each["cell"] == cell_type and each.get("node") == node]
            assert pruned == ([inputs] if len(space.into(node)) > len(inputs) else [])


def test_sgas_by_perturbation_decides_as_a_selection_would(monkeypatch):
    supernet, twin = make_supernet("s2"), make_supernet("s2")
    monkeypatch.setattr(Bilevel, "train_epoch", lambda *_: Measurement(0.0, 0.0, 0.0))
    settings = SearchSettings(epochs=8, sgas="perturbation", sgas_metric="loss")
    decisions = next(search_sgas(Bilevel(supernet, settings), DATA, DATA))["decisions"]
    assert len(decisions) == 2
    judge = make_judge(twin, metric="loss")
    for made in decisions:
        edge = twin.space.edges.index(tuple(made["edge"]))
        assert made.pop("sgas") == score_edges(twin, made["cell"])[edge].measured
        assert decide_edge(judge, made["cell"], edge) == made
