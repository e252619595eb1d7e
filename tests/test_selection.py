"""Selection: the criteria, Algorithms 1 and 2, tuning, and a case with a known right answer."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ptnas
from genotypes import SPACES, Space
from ptnas import Bilevel, Candidate, Judge, Measurement, Score, SearchSettings, SelectionSettings
from tests.conftest import Batches, make_images, make_supernet
from tests.reference import Reference, measure
from tests.test_steps import make_judge, play, take_steps

DATA = Batches(*make_images(12))


@contextlib.contextmanager
def without_measuring():
    """All measurements are equal inside the `with` block, and take no time."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        nothing = Measurement(0.0, 0.0, 0.0)
        monkeypatch.setattr(Judge, "measure", lambda _, masks=(None,): [nothing] * len(masks))
        yield


@contextlib.contextmanager
def script_scores(draw):
    """The criterion "random" gives each candidate the score that `draw` returns. Yields the scores by candidate."""
    scores = {}

    def criterion(judge, candidates):
        scores.update((candidate, draw()) for candidate in candidates)
        return [Score((scores[candidate],), {}) for candidate in candidates]

    with without_measuring(), pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(ptnas.CRITERIA, "random", criterion)
        yield scores


# ---- Algorithms 1 and 2


@given(space=st.sampled_from(sorted(SPACES)), seed=st.integers(0, 100), data=st.data())
def test_the_best_operation_of_every_edge_and_the_best_two_inputs_of_every_node_are_kept(space, seed, data):
    supernet = make_supernet(space, channels=2)
    space = supernet.space
    with script_scores(lambda: data.draw(st.integers(0, 3))) as scores:
        play(make_judge(supernet, criterion="random", seed=seed))
    for cell_type, cell in supernet.genotype().cells.items():
        kept = {space.edges.index((source, node)): operation for operation, source, node in cell.operations}
        assert len(kept) == (6 if space.name == "nb201" else 8)
        for edge, operation in kept.items():
            ranks = {each.operation: rank for each, rank in scores.items() if each[:2] == (cell_type, edge)}
            ranks.pop(None, None)
            names = space.operations[cell_type][edge]
            assert [names[index] for index in ranks] == [n for n in names if n != "none" or space.name == "nb201"]
            assert ranks[names.index(operation)] == max(ranks.values())
        for node in space.nodes:
            edges = [edge for edge in space.into(node) if Candidate(cell_type, edge, None) in scores]
            assert edges == (space.into(node) if node > 2 and space.name != "nb201" else [])
            ranks = {edge: scores[Candidate(cell_type, edge, None)] for edge in edges}
            chosen = kept.keys() & ranks.keys()
            assert not edges or len(chosen) == 2
            assert all(ranks[other] <= min(ranks[edge] for edge in chosen) for other in ranks.keys() - chosen)


def test_a_round_decides_one_edge_of_each_cell_type_and_nodes_come_last():
    def select(seed):
        with without_measuring():
            return play(make_judge(make_supernet("s2", channels=2), seed=seed))

    records = select(1)
    assert [[made["cell"] for made in record["decisions"]] for record in records] == 17 * [["normal", "reduce"]]
    keys = [tuple(record["decisions"][0]) for record in records]
    assert keys == 14 * [("cell", "edge", "operation", "scores")] + 3 * [("cell", "node", "inputs", "scores")]
    edges, others = ([tuple(r["decisions"][0]["edge"]) for r in each[:14]] for each in (records, select(2)))
    assert sorted(edges) == sorted(others) == sorted(SPACES["s2"].edges)
    assert edges != list(SPACES["s2"].edges) != others != edges, "in random order"
    assert {record["decisions"][1]["node"] for record in records[14:]} == {3, 4, 5}


def test_what_is_decided_already_is_not_decided_again():
    supernet = make_supernet("s2", channels=2)
    for edge in range(14):
        supernet.decide("normal", edge, edge % 2)
    supernet.prune("normal", 2)  # node 3 keeps its two other inputs
    with without_measuring():
        records = play(make_judge(supernet))
    made = [decision for record in records for decision in record["decisions"] if decision["cell"] == "normal"]
    assert sorted(decision.get("node") for decision in made) == [4, 5]


def test_an_undecided_supernet_has_no_genotype():
    supernet = make_supernet("s2")
    for decided in (range(13), range(14)):  # an edge is missing, then the topology
        for edge in decided:
            supernet.decide("normal", edge, 0)
            supernet.decide("reduce", edge, 0)
        with pytest.raises(ValueError, match="not decided"):
            supernet.genotype()


# ---- the criteria


@pytest.mark.parametrize(("space", "metric"), [("s3", "accuracy"), ("s3", "loss"), ("nb201", "loss")])
def test_a_selection_by_perturbation_is_that_of_the_plain_reference(space, metric):
    """Each operation of an edge, and then each input of a node, is masked alone: those stay whose loss hurts most."""
    plain, scores = make_supernet(space), []
    reference = Reference.like(plain, 3, 4, 3, 1)
    for decide, choices in ptnas.plan_rounds(plain, seed=3):
        for cell_type, index in choices:
            if decide is ptnas.decide_edge:
                masks = [(cell_type, index, operation) for operation in plain.space.candidates(cell_type, index)]
            else:
                masks = [(cell_type, edge, None) for edge in plain.space.into(index)]
            measured = []
            for mask in masks:
                with plain.mask(*mask):
                    accuracy, loss, _ = measure(reference, plain.presence, DATA)
                measured.append(((accuracy, -loss) if metric == "accuracy" else (-loss, accuracy), mask))
                scores.append({"accuracy": accuracy, "loss": loss})
            (_, worst), _, *others = sorted(measured)
            if decide is ptnas.decide_edge:
                plain.decide(*worst)
            else:
                for _, mask in others:
                    plain.prune(*mask[:2])
    supernet = make_supernet(space)
    records = play(make_judge(supernet, metric=metric, seed=3))
    assert supernet.genotype() == plain.genotype()
    made = [each for record in records for decision in record["decisions"] for each in decision["scores"].values()]
    assert made == [pytest.approx(each) for each in scores]


@pytest.mark.parametrize("space", ["darts+none", "s1"])
def test_magnitude_without_tuning_is_what_darts_does(space):
    supernet = make_supernet(space, channels=2, seed=4)
    if space == "darts+none":
        with torch.no_grad():
            supernet.alpha["normal"][:, 0] += 5  # `none` is largest, as it is in DARTS, and must not be chosen
    weights, space = supernet.theta(), supernet.space
    with without_measuring():
        play(make_judge(supernet, criterion="magnitude"))
    for cell_type, cell in supernet.genotype().cells.items():
        wanted = []
        for node in space.nodes:
            best = []
            for edge in space.into(node):
                pairs = zip(weights[cell_type][edge].tolist(), space.operations[cell_type][edge], strict=True)
                weight, name = max(pair for pair in pairs if pair[1] != "none")
                best.append((weight, space.edges[edge][0], name))
            wanted += sorted((source, name) for _, source, name in sorted(best, reverse=True)[:2])
        assert [(source, name) for name, source, _ in cell.operations] == wanted


def test_discretization_accuracy_is_that_of_a_copy_that_was_decided_and_tuned():
    supernet = make_supernet("s2")
    judge = make_judge(supernet, criterion="discretization", tune_epochs=1)
    before = copy.deepcopy(supernet.state_dict())
    scores = ptnas.discretization(judge, [Candidate("normal", 4, 0), Candidate("normal", 4, 1)])
    for name, value in supernet.state_dict().items():
        assert torch.equal(value, before[name]) if torch.is_tensor(value) else value == before[name]
    supernet.decide("normal", 4, 1)
    Bilevel(supernet, SearchSettings(lr=SearchSettings.lr / 10)).train_epoch(DATA, DATA)
    (wanted,) = ptnas.evaluate(supernet, DATA, 512)
    assert scores[1] == ((wanted.accuracy, -wanted.loss), {"accuracy": wanted.accuracy, "loss": wanted.loss})
    (pruned,) = ptnas.discretization(judge, [Candidate("normal", 3, None)])
    assert pruned.rank == (-pruned.measured["accuracy"], pruned.measured["loss"])


def test_random_selection_depends_on_its_seed_only():
    def choose(seed, weights_seed=0):
        supernet = make_supernet("darts", channels=2, seed=weights_seed)
        with without_measuring():
            play(make_judge(supernet, criterion="random", seed=seed))
        return supernet.genotype()

    found = [choose(seed) for seed in range(8)]
    assert found[0] == choose(0, weights_seed=1)
    assert len(set(found)) == 8
    operations = {operation for genotype in found for operation, _ in genotype.normal}
    assert operations == set(SPACES["darts"].operations["normal"][0])


# ---- tuning


@pytest.mark.parametrize(("searched", "tuned"), [("bilevel", "bilevel"), ("bilevel", "fixed"), ("fixed", "bilevel")])
def test_tuning_trains_w_at_a_tenth_of_the_learning_rate_and_alpha_unless_it_is_fixed(searched, tuned):
    data, search = Batches(*make_images(12)), SearchSettings(batch_size=6, lr=0.1, alpha=searched)
    supernet = make_supernet("s4", fixed_alpha=searched == "fixed")
    judge, before = make_judge(supernet, data, search, tune_epochs=1, alpha=tuned), copy.deepcopy(supernet)
    play(judge, until=2)
    assert judge.bilevel.w_optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    for former, now in zip(before.weight_parameters()[-2:], supernet.weight_parameters()[-2:], strict=True):
        assert not torch.equal(former, now)
    for former, now in zip(before.alpha_parameters(), supernet.alpha_parameters(), strict=True):
        assert torch.equal(former, now) == ("fixed" in (searched, tuned))
        assert now.any() == (searched == "bilevel")


def test_magnitude_with_a_frozen_alpha_chooses_what_darts_does():
    found = []
    for settings in ({}, {"tune_epochs": 2, "alpha": "fixed"}, {"tune_epochs": 2}):
        judge = make_judge(
            make_supernet(spread=0.01), search=SearchSettings(alpha_lr=0.1), criterion="magnitude", **settings
        )
        play(judge)
        found.append(judge.supernet.genotype())
    assert found[0] == found[1] != found[2]


def test_adam_goes_on_with_its_moments_of_the_search_and_sgd_starts_anew():
    data, settings = Batches(*make_images(12)), SearchSettings(epochs=2, batch_size=6)
    bilevel = Bilevel(make_supernet(), settings)
    take_steps(ptnas.search(bilevel, data, data))
    by_hand = copy.deepcopy(bilevel)
    by_hand.w_optimizer = torch.optim.SGD(by_hand.w, 0.0, settings.momentum, 0, settings.weight_decay)
    by_hand.lr = settings.lr / 10
    candidate = Candidate("normal", 4, 1)
    bilevel.start_tuning()
    judge = Judge(bilevel, SelectionSettings(criterion="discretization", tune_epochs=2), data, data)
    assert bilevel.alpha_optimizer.state, "the moments of the search"
    for _ in range(2):  # copies leave those of the supernet as they are
        (score,) = ptnas.discretization(judge, [candidate])
    by_hand.supernet.decide(*candidate)
    for _ in range(2):
        by_hand.train_epoch(data, data)
    (wanted,) = ptnas.evaluate(by_hand.supernet, data, 512)
    assert score.measured == {"accuracy": wanted.accuracy, "loss": pytest.approx(wanted.loss, rel=1e-9)}
    bilevel.supernet.decide(*candidate)
    assert judge.tune().loss == pytest.approx(wanted.loss, rel=1e-9)
    assert bilevel.epochs == by_hand.epochs == 4, "every epoch has batches of its own"
    for ours, theirs in zip(bilevel.alpha, by_hand.alpha, strict=True):
        torch.testing.assert_close(ours, theirs)


# ---- a known right answer


@pytest.mark.parametrize(
    ("edge", "trained", "metric"), [(0, 0, "accuracy"), (0, 1, "loss"), (3, 1, "accuracy"), (10, 0, "loss")]
)
def test_the_convolution_that_carries_the_signal_is_chosen_over_a_useless_one(edge, trained, metric):
    """All signal passes through one edge. It has two convolutions, one of which was masked while the supernet was
    trained, so that the other has learnt to carry the signal."""
    names = ("dil_conv_3x3", "sep_conv_3x3")
    space = Space("known", "darts", SPACES["s2"].edges, dict.fromkeys(("normal", "reduce"), (names,) * 14), True, False)
    supernet = make_supernet(space, classes=4, fixed_alpha=True).float()
    for other, (source, _) in enumerate(space.edges):
        if other != edge:
            supernet.prune("normal", other)
        if source == 0:
            supernet.prune("reduce", other)  # no way around the normal cell
        else:
            supernet.decide("reduce", other, 1)
    data = Batches(*make_images(60, dtype=torch.float, classes=4))
    settings = SearchSettings(epochs=8, batch_size=20, lr=0.1, alpha="fixed")
    with supernet.mask("normal", edge, 1 - trained):
        records = take_steps(ptnas.search(Bilevel(supernet, settings), data, data))
        assert records[-1]["valid_accuracy"] > 95
    (record,) = play(make_judge(supernet, data, settings, metric=metric), until=1)
    (made,) = record["decisions"]
    assert made["operation"] == names[trained]
    without_it, without_other = made["scores"][names[trained]], made["scores"][names[1 - trained]]
    assert without_it["accuracy"] < 80 < 95 < without_other["accuracy"]
