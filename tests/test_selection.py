"""Selection: Algorithms 1 and 2, the criteria, and a case whose right answer is known."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ptnas
from genotypes import SPACES, Space
from ptnas import Candidate, Score, Search, SearchSettings, Selection, SelectionSettings, evaluate
from tests.conftest import Batches, make_images, make_supernet

DATA = Batches(*make_images(12))


def make_selection(supernet, data=DATA, train=None, search=None, **settings):
    settings = {"tune_epochs": 0} | settings
    return Selection(supernet, search or SearchSettings(), SelectionSettings(**settings), train or data, data)


def run(selection):
    return [selection.step() for _ in range(selection.total)]


def scripted(monkeypatch, draw):
    """A criterion that gives every candidate the score that `draw` returns; returns the scores it gave."""
    given_scores = {}

    def criterion(judge, candidates):
        for candidate in candidates:
            given_scores[candidate] = draw()
        return [Score((given_scores[candidate],), {}) for candidate in candidates]

    monkeypatch.setitem(ptnas.CRITERIA, "scripted", criterion)
    return given_scores


# ---------------------------------------------------------------------------------- what must hold of any selection


DARTS_LIKE = sorted(name for name, space in SPACES.items() if space.family == "darts")


@given(space=st.sampled_from(DARTS_LIKE), seed=st.integers(0, 100), data=st.data())
def test_the_best_operation_of_every_edge_and_the_best_two_inputs_of_every_node_are_kept(space, seed, data):
    supernet = make_supernet(space, channels=2)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Selection, "measure", lambda self, _: ptnas.Measurement(0.0, 0.0))
        scores = scripted(monkeypatch, lambda: data.draw(st.integers(0, 3)))
        selection = make_selection(supernet, criterion="scripted", seed=seed)
        run(selection)
    genotype = supernet.genotype()
    kept = {"normal": genotype.normal, "reduce": genotype.reduce}
    for cell_type, rows in supernet.space.operations.items():
        for node in supernet.space.nodes:
            edges = supernet.space.into(node)
            entries = kept[cell_type][2 * (node - 2) : 2 * (node - 1)]
            chosen = {next(e for e in edges if supernet.space.edges[e][0] == source) for _, source in entries}
            assert len(chosen) == 2
            if node > 2:
                removed = set(edges) - chosen
                ranks = {edge: scores[Candidate(cell_type, edge, None)] for edge in edges}
                assert min(ranks[edge] for edge in chosen) >= max(ranks[edge] for edge in removed)
            for operation, source in entries:
                assert operation != "none"
                edge = next(e for e in edges if supernet.space.edges[e][0] == source)
                rank = {
                    rows[edge][c.operation]: s
                    for c, s in scores.items()
                    if c[:2] == (cell_type, edge) and c[2] is not None
                }
                assert rank[operation] == max(rank.values())
                assert "none" not in rank


@given(seed=st.integers(0, 100), data=st.data())
def test_on_nas_bench_201_the_best_operation_of_every_edge_is_kept_none_too(seed, data):
    supernet = make_supernet("nb201", layers=1, channels=2)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Selection, "measure", lambda self, _: ptnas.Measurement(0.0, 0.0))
        scores = scripted(monkeypatch, lambda: data.draw(st.integers(0, 30)))
        records = run(make_selection(supernet, criterion="scripted", seed=seed))
    assert len(records) == 6, "an edge a round, and no topology"
    names = supernet.space.operations["cell"][0]
    for edge, operation in enumerate(supernet.genotype().operations):
        ranks = [scores[Candidate("cell", edge, index)] for index in range(5)]
        assert ranks[names.index(operation)] == max(ranks)


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_the_two_inputs_kept_are_those_whose_removal_hurts_most(metric):
    supernet = make_supernet("s2")
    selection = make_selection(supernet, metric=metric, seed=3)
    for _ in range(14):
        selection.step()
    assert not supernet.undecided("normal")
    while selection.done < selection.total:
        before = copy.deepcopy(supernet)
        for decision in selection.step()["decisions"]:
            cell_type, node = decision["cell"], decision["node"]
            measured = {}
            for edge in before.space.into(node):
                alone = copy.deepcopy(before)
                alone.prune(cell_type, edge)
                measured[before.space.edges[edge][0]] = evaluate(alone, DATA, 512)
            sign = 1 if metric == "accuracy" else -1
            by_pain = sorted(measured, key=lambda source: sign * getattr(measured[source], metric))
            worst = [getattr(measured[source], metric) for source in by_pain[:2]]
            assert sorted(getattr(measured[source], metric) for source in decision["inputs"]) == sorted(worst)
            for source in decision["inputs"]:
                assert decision["scores"][str(source)]["loss"] == pytest.approx(measured[source].loss)
            for edge in before.space.into(node):
                if before.space.edges[edge][0] not in decision["inputs"]:
                    before.prune(cell_type, edge)


def test_a_round_decides_one_edge_of_each_cell_type_and_nodes_come_last():
    supernet = make_supernet("s2", channels=2)
    selection = make_selection(supernet, seed=1)
    records = run(selection)
    assert len(records) == 14 + 3
    for record in records:
        assert [decision["cell"] for decision in record["decisions"]] == ["normal", "reduce"]
    assert [tuple(record["decisions"][0]) for record in records] == [
        *[("cell", "edge", "operation", "scores")] * 14,
        *[("cell", "node", "inputs", "scores")] * 3,
    ]
    edges = [tuple(record["decisions"][0]["edge"]) for record in records[:14]]
    assert sorted(edges) == sorted(supernet.space.edges)
    assert edges != list(supernet.space.edges), "in random order"
    other = make_selection(make_supernet("s2", channels=2), seed=2)
    assert [tuple(record["decisions"][0]["edge"]) for record in run(other)[:14]] != edges
    assert {record["decisions"][1]["node"] for record in records[14:]} == {3, 4, 5}


def test_the_scores_of_perturbation_are_measured_without_the_operation():
    supernet = make_supernet("s3")
    selection = make_selection(supernet, seed=5)
    for _ in range(3):
        before = copy.deepcopy(supernet)
        decision = selection.step()["decisions"][0]
        edge = before.space.edges.index(tuple(decision["edge"]))
        for operation, name in enumerate(before.space.operations["normal"][edge]):
            if name == "none":
                assert name not in decision["scores"]
                continue
            with before.mask("normal", edge, operation):
                without = evaluate(before, DATA, 512)
            assert decision["scores"][name] == {"accuracy": without.accuracy, "loss": pytest.approx(without.loss)}


def test_equal_accuracies_are_told_apart_by_the_loss():
    class Judge:
        supernet, metric, seed = make_supernet("s2"), "accuracy", 0

        def measure_without(self, candidates):
            return [ptnas.Measurement(*each) for each in ((90.0, 0.5), (90.0, 0.7), (91.0, 0.9))]

    scores = ptnas.perturbation(Judge(), [Candidate("normal", edge, 0) for edge in range(3)])
    ranked = sorted(range(3), key=lambda index: scores[index].rank, reverse=True)
    assert ranked == [1, 0, 2]


# ------------------------------------------------------------------------------------------------- the criteria


@pytest.mark.parametrize("space", ["darts+none", "s1"])
def test_magnitude_without_tuning_is_what_darts_does(space):
    supernet = make_supernet(space, channels=2, seed=4)
    if space == "darts+none":
        with torch.no_grad():
            supernet.alpha["normal"][:, 0] += 5  # `none` is largest, as it is in DARTS, and must not be chosen
    weights = supernet.weights()
    run(make_selection(supernet, criterion="magnitude"))
    genotype = supernet.genotype()
    for cell_type, cell in (("normal", genotype.normal), ("reduce", genotype.reduce)):
        wanted = []
        for node in range(2, 6):
            best = []
            for edge, (source, target) in enumerate(supernet.space.edges):
                if target == node:
                    names = supernet.space.operations[cell_type][edge]
                    weight, name = max(
                        (w, n) for w, n in zip(weights[cell_type][edge].tolist(), names, strict=True) if n != "none"
                    )
                    best.append((weight, source, name))
            wanted += [(name, source) for _, source, name in sorted(sorted(best, reverse=True)[:2], key=lambda x: x[1])]
        assert list(cell) == wanted


def test_discretisation_accuracy_leaves_the_supernet_as_it_was():
    supernet = make_supernet("s2").float()
    data = Batches(*make_images(12, dtype=torch.float))
    selection = make_selection(supernet, data, criterion="discretization", tune_epochs=1)
    before = copy.deepcopy(selection.state_dict())
    candidates = [Candidate("normal", 4, 0), Candidate("normal", 4, 1)]
    scores = ptnas.discretization(selection, candidates)
    after = selection.state_dict()
    for name, value in before["bilevel"]["supernet"].items():
        assert (
            torch.equal(value, after["bilevel"]["supernet"][name])
            if torch.is_tensor(value)
            else value == after["bilevel"]["supernet"][name]
        )
    # it is the accuracy of a copy that was decided and then tuned
    twin = copy.deepcopy(supernet)
    twin.decide("normal", 4, 1)
    tuned = ptnas.Bilevel(twin, SearchSettings(), lr=SearchSettings.lr / 10)
    tuned.epoch(data, data, SearchSettings.epochs)
    wanted = evaluate(twin, data, 512)
    assert scores[1].measured == {"accuracy": wanted.accuracy, "loss": wanted.loss}
    assert scores[1].rank == (wanted.accuracy, -wanted.loss)


def test_discretisation_selects_whole_architectures():
    supernet = make_supernet("s2", channels=2)
    run(make_selection(supernet, criterion="discretization"))
    assert len(supernet.genotype().normal) == 8


def test_random_selection_depends_on_its_seed_only():
    def chosen(seed, weights_seed):
        supernet = make_supernet("darts", channels=2, seed=weights_seed)
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(Selection, "measure", lambda self, _: ptnas.Measurement(0.0, 0.0))
            run(make_selection(supernet, criterion="random", seed=seed))
        return supernet.genotype()

    assert chosen(0, 0) == chosen(0, 1)
    assert len({chosen(seed, 0) for seed in range(5)}) == 5
    operations = [operation for seed in range(20) for operation, _ in chosen(seed, 0).normal]
    assert set(operations) == set(SPACES["darts"].operations["normal"][0])


# ---------------------------------------------------------------------------------------------------- tuning


def test_tuning_trains_on_and_continues_from_its_state():
    data = Batches(*make_images(24, dtype=torch.float))
    search = SearchSettings(batch_size=8, lr=0.1)

    def begin():
        return make_selection(make_supernet("s4").float(), data, search=search, tune_epochs=1, seed=2)

    through, stopped = begin(), begin()
    assert through.bilevel.w_optimizer.param_groups[0]["lr"] == pytest.approx(0.01), "a tenth of the search's"
    before = copy.deepcopy(through.supernet.state_dict())
    records = run(through)
    after = through.supernet.state_dict()
    assert not torch.equal(before["skeleton.classifier.weight"], after["skeleton.classifier.weight"])
    assert not torch.equal(before["alpha.normal"], after["alpha.normal"]), "α is trained on"
    for _ in range(5):
        stopped.step()
    resumed = begin()
    resumed.load_state_dict(copy.deepcopy(stopped.state_dict()))
    assert [resumed.step() for _ in range(resumed.total - 5)] == records[5:]
    assert resumed.supernet.genotype() == through.supernet.genotype()
    assert resumed.decisions == through.decisions


def test_tuning_leaves_a_fixed_alpha_at_zero():
    data = Batches(*make_images(12, dtype=torch.float))
    supernet = make_supernet("s2", fixed_alpha=True).float()
    selection = make_selection(supernet, data, search=SearchSettings(alpha="fixed"), tune_epochs=1)
    selection.step()
    assert not any(alpha.any() for alpha in supernet.alpha_parameters())


def test_an_undecided_supernet_has_no_genotype():
    supernet = make_supernet("s2")
    with pytest.raises(ValueError, match="not decided"):
        supernet.genotype()
    for edge in range(14):
        for cell_type in ("normal", "reduce"):
            supernet.decide(cell_type, edge, 0)
    with pytest.raises(ValueError, match="not decided"):
        supernet.genotype()  # topology is missing


def test_what_is_decided_already_is_not_decided_again():
    supernet = make_supernet("s2", channels=2)
    for edge in range(14):
        supernet.decide("normal", edge, edge % 2)
    supernet.prune("normal", 2)
    selection = make_selection(supernet)
    records = run(selection)
    decided = [decision for record in records for decision in record["decisions"] if decision["cell"] == "normal"]
    assert [decision["node"] for decision in decided if "node" in decision] == [d["node"] for d in decided]
    assert {decision["node"] for decision in decided} == {4, 5}


# ------------------------------------------------------------------------------------------- a known right answer


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
@pytest.mark.parametrize("trained", [0, 1])
@pytest.mark.parametrize("edge", [0, 3, 10])
def test_the_convolution_that_carries_the_signal_is_chosen_over_a_useless_one(metric, trained, edge):
    """All signal passes through one edge. It has two convolutions, of which one was masked while the supernet was
    trained: the other has learnt to carry the signal."""
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
    search = Search(supernet, SearchSettings(epochs=8, batch_size=20, lr=0.1, alpha="fixed"), data, data)
    with supernet.mask("normal", edge, 1 - trained):
        records = [search.step() for _ in range(8)]
    assert records[-1]["valid_accuracy"] > 95
    selection = make_selection(supernet, data, search=search.settings, metric=metric)
    (decision,) = selection.step()["decisions"]
    assert decision["operation"] == names[trained]
    without_it, without_other = decision["scores"][names[trained]], decision["scores"][names[1 - trained]]
    assert without_it["accuracy"] < 80 < 95 < without_other["accuracy"]


# ------------------------------------------------------------------------------------ tuning until it converges again


def test_tuning_ends_when_the_supernet_is_as_good_as_at_the_start_or_gets_no_better(monkeypatch):
    """After the decisions of a round, and after each epoch of tuning, as scripted; the standard error of 80% is 11.5
    points with twelve images."""
    scripted_rounds = [[50.0, 60.0, 69.0], [68.6], [10.0, 20.0, 30.0, 40.0], [39.0, 68.4, 68.4], [60.0, 55.0]]
    values = iter([80.0] + [value for of_round in scripted_rounds for value in of_round])
    tuned = []
    monkeypatch.setattr(Selection, "measure", lambda self, _: ptnas.Measurement(next(values), 1.0))
    monkeypatch.setattr(ptnas.Bilevel, "epoch", lambda self, train, valid, epoch, progress: tuned.append(epoch))
    settings = {"criterion": "random", "tune": "converge", "tune_epochs": 3}
    selection = make_selection(make_supernet("s2"), search=SearchSettings(epochs=7), **settings)
    records = [selection.step() for _ in scripted_rounds]
    assert [record["tuned_epochs"] for record in records] == [2, 0, 3, 2, 1]
    assert tuned == list(range(7, 15)), "every epoch draws its own batches"
    assert next(values, None) is None, "and is measured once"


def test_a_selection_that_converges_goes_on_where_it_stopped():
    search = SearchSettings(lr=0.5, batch_size=6)
    settings = {"tune": "converge", "tune_epochs": 2, "metric": "loss"}
    whole = make_selection(make_supernet("s2", channels=2), search=search, **settings)
    records = [whole.step() for _ in range(4)]
    first = make_selection(make_supernet("s2", channels=2), search=search, **settings)
    begun = [first.step() for _ in range(2)]
    second = make_selection(make_supernet("s2", channels=2, seed=5), search=search, **settings)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert begun + [second.step() for _ in range(2)] == records
