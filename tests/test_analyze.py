"""Sec. 3, measured: the strength of operations (Fig. 1, 2 and 7), the gap (Fig. 3), shuffled edges (Table 1)."""

import copy
import json
import random
import re
from contextlib import nullcontext
from statistics import mean, stdev
from unittest.mock import Mock

import pytest
import torch
from scipy.stats import kendalltau

import ptnas
import runs
from data import load_supernet
from genotypes import PUBLISHED, SPACES, Arch
from ptnas import SearchSettings
from tests.conftest import Batches, blank, load_script, make_images, make_supernet, write_image_folder
from tests.test_steps import make_judge

ANALYZE, TRAIN = load_script("analyze"), load_script("train_search")
TABLE_1 = ["--shuffles", "2", "--epochs", "6", "--channels", "4", "--layers", "3"]
OPTIONS = {"fig1": ["--tune-epochs", "1", "--edges", "2"], "fig2": ["--tune-epochs", "0"], "table1": TABLE_1}
DATA = Batches(*make_images(count=24))


@pytest.mark.parametrize("space", ["s1", "s2", "nb201"])
def test_swapped_edges_take_their_operations_alpha_and_presence_along(space):
    """The same two edges are swapped in every cell, so that α can be exchanged by hand."""
    supernet, (images, _) = make_supernet(space), make_images()
    one, other = (1, 5) if space == "nb201" else (7, 12)
    by_hand, cell_type = copy.deepcopy(supernet), supernet.space.cell_types[0]
    for alpha in by_hand.alpha.values():
        alpha.data[[one, other]] = alpha.data[[other, one]]
    for cell, original in zip(by_hand.skeleton.cells, supernet.skeleton.cells, strict=True):
        for to, source in ((one, other), (other, one)):
            cell.edges[to] = copy.deepcopy(original.edges[source])
    before = supernet(images)
    for cell in supernet.skeleton.cells:
        ANALYZE.swap_edges(cell, one, other)
    assert torch.allclose(by_hand(images), supernet(images), rtol=1e-10, atol=1e-12)
    assert not torch.allclose(before, supernet(images))
    with supernet.mask(cell_type, one, 0), by_hand.mask(cell_type, other, 0):
        assert torch.allclose(by_hand(images), supernet(images), rtol=1e-10, atol=1e-12)


def test_pairs_of_edges_fit_and_are_not_both_pruned():
    supernet, (images, _) = make_supernet(), make_images(count=4, size=9)
    for cell in supernet.skeleton.cells:
        pairs = ANALYZE.list_edge_pairs(supernet, cell)
        # a reduction cell has 8 edges of stride 2 and 6 of stride 1
        assert len(pairs) == (91 if cell.cell_type == "normal" else 28 + 15)
        for pair in pairs[:: 7 if cell.cell_type == "normal" else 5]:
            ANALYZE.swap_edges(cell, *pair)
            assert supernet(images).shape == (4, 3)
            ANALYZE.swap_edges(cell, *pair)
    supernet = make_supernet("nb201", layers=1)
    for edge in (1, 2, 4):
        supernet.prune("cell", edge)
    assert len(ANALYZE.list_edge_pairs(supernet, supernet.skeleton.cells[0])) == 15 - 3


@pytest.mark.parametrize("space", ["s4", "nb201"])
def test_a_shuffle_of_edges_swaps_two_in_every_cell_and_is_undone(space):
    supernet, (images, _) = make_supernet(space), make_images()
    before = supernet(images)
    with pytest.raises(KeyError), ANALYZE.shuffle_edges(supernet, random.Random(0)):
        for cell in supernet.skeleton.cells:
            pairs = zip(cell.space.edges, supernet.space.edges, strict=True)
            assert sum(now != usual for now, usual in pairs) == 2
        assert not torch.allclose(supernet(images), before)
        raise KeyError
    assert torch.equal(supernet(images), before)


@pytest.mark.parametrize("kind", ["VGG", "ResNet"])
def test_a_shuffle_of_layers_swaps_two_in_every_stage_and_is_undone(kind):
    torch.manual_seed(0)
    network, (images, _), seen = ANALYZE.Staged(kind, 3, 4, 3, 1).double(), make_images(size=9), set()
    network(images)  # running statistics
    before, usual = network.eval()(images), [list(stage) for stage in network.stages]
    for seed in range(12):
        with pytest.raises(KeyError), ANALYZE.shuffle_layers(network, random.Random(seed)):
            for stage, own in zip(network.stages, usual, strict=True):
                seen.add((usual.index(own), *(place for place in range(3) if stage[place] is not own[place])))
            assert not torch.allclose(network(images), before)
            raise KeyError
        assert torch.equal(network(images), before)
    # the first layer of the second and third stage halves the map
    assert seen == {(0, 0, 1), (0, 0, 2), (0, 1, 2), (1, 1, 2), (2, 1, 2)}


def test_a_resnet_of_three_layers_per_stage_is_the_resnet_20_of_he_et_al():
    network = ANALYZE.Staged("ResNet", 3, 16, 10, 3)
    shortcuts = 16 * 32 + 32 * 64 + 2 * 32 + 2 * 64
    assert sum(parameter.numel() for parameter in network.parameters()) == 269_722 + shortcuts  # 0.27M in Table 6


@pytest.mark.parametrize(
    ("first", "second", "tau"),
    [
        ([1, 2, 3, 4], [10, 20, 40, 30], 4 / 6),
        ([1, 1, 2], [1, 2, 3], 2 / 6**0.5),  # τ-b: 2 pairs agree, one is a tie in one of the orders
        ([1, 1, 1], [1, 2, 3], None),
        ([1], [2], None),
    ],
)
def test_rank_correlation_of_known_orders(first, second, tau):
    assert ANALYZE.correlate_ranks(first, second) == (None if tau is None else pytest.approx(tau))


@pytest.mark.parametrize(("space", "metric"), [("s2", "accuracy"), ("s4", "loss")])
def test_strength_is_what_a_copy_of_the_supernet_reaches_with_the_operation_alone(space, metric):
    supernet, (images, _) = make_supernet(space), make_images()
    search = SearchSettings(epochs=1, batch_size=8)
    judge = make_judge(supernet, DATA, search, metric=metric, tune_epochs=1)
    judge.valid = Batches(*make_images(24, seed=1))
    before, random_state = supernet(images), torch.get_rng_state()
    fresh, truth = (
        Batches(*make_images(12, seed=2)),
        {(2, "noise"): 9.0, (2, "skip_connect"): 9.0, (2, "sep_conv_3x3"): 5.0},
    )
    record = ANALYZE.measure_strength(judge, "normal", 2, [0, 2], 2, {"epoch": 1}, [fresh], truth)
    assert torch.equal(supernet(images), before)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert (record["epoch"], record["edge"], record["operations"]) == (
        1,
        [0, 3],
        list(supernet.space.operations["normal"][2]),
    )
    wanted = {"largest α": [{"weight": weight} for weight in supernet.theta()["normal"][2].tolist()]}
    for where, valid in (("", judge.valid), (", 12 images", fresh)):
        other = ptnas.Judge(judge.bilevel, judge.settings, DATA, valid)
        masked = other.measure([ptnas.Candidate("normal", 2, operation) for operation in range(2)])
        for each in ("accuracy", "loss"):
            wanted[f"masks, by {each}{where}"] = [{"accuracy": m.accuracy, "loss": m.loss} for m in masked]
    for epochs, repeat in ((0, 0), (2, 0), (2, 1)):
        reached = []
        for operation in range(2):
            trial = judge.copy()
            trial.bilevel.epochs += 1000 * repeat
            trial.supernet.decide("normal", 2, operation)
            for _ in range(epochs):
                trial.tune()
            (measured,) = trial.measure()
            reached.append({"accuracy": measured.accuracy, "loss": measured.loss})
        wanted[ANALYZE.name_strength(epochs, repeat)] = reached
    wanted["the truth"] = [{"error": truth[2, name]} for name in record["operations"]]
    assert {name: column["measured"] for name, column in record["columns"].items()} == wanted
    assert wanted[ANALYZE.name_strength(2)] != wanted[ANALYZE.name_strength(2, 1)], "other batches"
    orders = {"largest α": ("weight", 1), "masks, by accuracy": ("accuracy", -1), "masks, by loss": ("loss", 1)}
    orders |= {ANALYZE.name_strength(2): (metric, 1 if metric == "accuracy" else -1), "the truth": ("error", -1)}
    for name, (key, sign) in orders.items():
        column = record["columns"][name]
        values = [sign * each[key] for each in column["measured"]]
        assert len(set(values)) == 1 or column["places"] == [sorted(values).index(value) for value in values], name


def test_the_truth_of_an_operation_is_the_mean_error_of_the_cells_that_have_it(benchmark):
    table = runs.load_benchmark(benchmark)
    truth = ANALYZE.average_truth(table)
    assert len(truth) == 6 * 5
    for edge, operation in ((0, "none"), (4, "nor_conv_3x3"), (5, "avg_pool_3x3")):
        cells = [
            errors["cifar10"] for arch, errors in table.items() if Arch.from_text(arch).operations[edge] == operation
        ]
        assert len(cells) == 3125
        assert truth[edge, operation] == pytest.approx(mean(cells))


def make_record(supernet, epoch, edge, **columns):
    measured = {name: {"places": places, "measured": []} for name, places in columns.items()}
    names = list(SPACES["nb201"].operations["cell"][0])
    where = {"supernet": supernet, "epoch": epoch, "cell": "cell", "edge": list(SPACES["nb201"].edges[edge])}
    return where | {"operations": names, "columns": measured}


def test_agreement_is_averaged_over_edges_first_and_then_over_supernets(benchmark):
    up, down = [0, 1, 2, 3, 4], [4, 3, 2, 1, 0]
    records = [make_record("a.pt", 8, edge, α=up, s=up, **{"s, again (1)": down, "the truth": up}) for edge in range(6)]
    records += [make_record("b.pt", 8, edge, α=down, s=up, **{"s, again (1)": up, "the truth": up}) for edge in (0, 1)]
    records += [make_record("a0.pt", 0, 3, α=[0] * 5, s=up, **{"s, again (1)": up, "the truth": down})]
    table = runs.load_benchmark(benchmark)
    rows = {(row["epoch"], row["column"]): row for row in ANALYZE.summarise_agreement(records, "s", table)}
    assert next(iter(rows)) == (0, "α"), "the untrained supernet comes first"
    last = rows[8, "α"]
    assert (last["tau"], last["first"]) == (pytest.approx([1.0, -1.0]), [100.0, 0.0])
    assert last["all"] == pytest.approx([1.0, -1.0])
    best = str(Arch((records[0]["operations"][4],) * 6))
    assert last["error"] == [table[best]["cifar10"]], "only where all six edges were measured"
    assert rows[8, "s"]["again"] == pytest.approx([-1.0, 1.0])
    assert (rows[0, "α"]["tau"], rows[0, "α"]["first"]) == ([None], [None]), "equal weights have no order"
    assert rows[0, "s"]["tau"] == pytest.approx([-1.0])
    assert (rows[0, "s"]["strong"], rows[8, "the truth"]["strong"]) == ([1.0], [1.0, 1.0]), "the other measure"
    none_last = [make_record("c.pt", 1, 0, α=[0, 4, 3, 2, 1], s=up, **{"the truth": up})]
    (row, *_) = ANALYZE.summarise_agreement(none_last, "s", table)
    assert (row["tau"], row["all"]) == (pytest.approx([-1.0]), pytest.approx([-0.2])), "`none` alone says little"
    without = [{**record, "columns": {name: record["columns"][name] for name in ("α", "s")}} for record in records]
    row = ANALYZE.summarise_agreement(without, "s", {})[2]
    assert (row["column"], row["tau"]) == ("α", pytest.approx([1.0, -1.0])), "with strength, if there is no truth"


def test_fresh_images_are_those_that_the_search_left_out(folder):
    trained = load_supernet(folder / "nb201.pt")
    fresh = ANALYZE.draw_fresh(trained, 1000)
    halves = trained.train.indices.tolist() + trained.valid.indices.tolist()
    assert (len(halves), len(set(fresh.indices.tolist()))) == (256, 1000)
    assert not set(halves) & set(fresh.indices.tolist())
    with pytest.raises(runs.UserError, match="left 1181 images out"):
        ANALYZE.draw_fresh(trained, 1182)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Trains small supernets."""
    path = tmp_path_factory.mktemp("supernets")
    for name, *options in (
        ("supernet", "--space", "s2", "--epochs", "2"),
        ("nb201", "--space", "nb201", "--layers", "1", "--limit", "256"),
        ("other", "--space", "nb201", "--layers", "1", "--seed", "1"),
        ("fixed", "--space", "s2", "--alpha", "fixed"),
        ("untrained", "--space", "nb201", "--layers", "1", "--epochs", "0"),
        ("snapshots", "--space", "nb201", "--layers", "1", "--epochs", "2", "--keep-every", "1"),
        ("s1", "--space", "s1"),
        ("s4", "--space", "s4"),
        ("decided", "--space", "nb201", "--layers", "1", "--sgas", "magnitude", "--epochs", "8", "--keep-every", "5"),
    ):
        small = ["--epochs", "1", "--channels", "2", "--limit", "64", "--threads", "1", *options]
        assert TRAIN.main([*small, "--save", str(path / f"{name}.pt")]) == 0
    return path


def run(tmp_path, command, *arguments, name="figure"):
    """Runs a command and returns the numbers that it writes beside its picture."""
    save = tmp_path / f"{name}.png"
    assert ANALYZE.main([command, *OPTIONS.get(command, []), *map(str, arguments), "--save", str(save)]) == 0
    assert not blank(save)
    return json.loads(save.with_suffix(".json").read_text())


@pytest.mark.parametrize(
    ("command", "name", "count"),
    # SGAS has decided 5 of 6 edges after 5 epochs
    [
        ("fig1", "s1", 2),
        ("fig1", "fixed", 2),
        ("fig1", "decided.epoch005", 1),
        ("fig2", "nb201", 6),
        ("table1", "s4", 15),
    ],
)
def test_the_commands_work_on_every_space(command, name, count, folder, tmp_path):
    assert len(run(tmp_path, command, "--ckpt", folder / f"{name}.pt")["measured"]) == count


def test_fig1_measures_random_edges_of_several_supernets(folder, tmp_path, capsys):
    found = run(tmp_path, "fig1", "--ckpt", folder / "nb201.pt", folder / "other.pt")
    records = found["measured"]
    assert [record["supernet"] for record in records] == ["nb201.pt"] * 2 + ["other.pt"] * 2
    assert len({(record["supernet"], *record["edge"]) for record in records}) == 4
    printed = re.findall(r"\| 1 \| (.*?) \| (-?\d\.\d\d) ", capsys.readouterr().out)
    taus = {row["column"]: row["tau"] for row in found["summary"]}
    assert list(taus) == list(records[0]["columns"])
    assert printed == [(name, f"{mean(tau):.2f}") for name, tau in taus.items()]


def test_fig1_draws_snapshots_as_a_curve_after_the_untrained_supernet(folder, tmp_path):
    paths = [folder / f"{name}.pt" for name in ("snapshots", "untrained", "snapshots.epoch001")]
    found = run(tmp_path, "fig1", "--ckpt", *paths, "--repeats", "1", "--images", "100")
    assert list(dict.fromkeys(row["epoch"] for row in found["summary"])) == [0, 1, 2]
    edges = [record["edge"] for record in found["measured"]]
    assert edges[:2] == edges[2:4] == edges[4:], "snapshots of one search have the same edges"
    assert "masks, by loss, 100 images" in found["measured"][0]["columns"]


def test_fig7_is_fig1_and_the_seed_chooses_the_edges(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained, edges = Mock(bilevel=Mock(supernet=make_supernet())), []
    monkeypatch.setattr(ANALYZE, "load_supernets", lambda args: [trained])
    monkeypatch.setattr(ANALYZE, "compare_strengths", lambda args, supernets, chosen, draw: edges.extend(chosen))
    for command, seed in (("fig1", "1"), ("fig7", "1"), ("fig1", "2")):
        assert ANALYZE.main([command, "--edges", "5", "--seed", seed]) == 0
    assert edges[0] == edges[1] != edges[2]
    assert all(len(set(each)) == 5 for each in edges)


def test_fig2_measures_every_edge_of_a_cell_of_supernet_pt(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    records = run(tmp_path, "fig2", "--cell", "reduce")["measured"]
    assert [tuple(record["edge"]) for record in records] == list(SPACES["s2"].edges)
    assert {record["cell"] for record in records} == {"reduce"}
    assert f"written to {tmp_path / 'figure.png'} and {tmp_path / 'figure.json'}" in capsys.readouterr().out


def test_fig3_is_drawn_from_the_log_alone(folder, tmp_path, capsys):
    log = tmp_path / "far.jsonl"
    log.write_text((folder / "supernet.jsonl").read_text())
    (curve,) = run(tmp_path, "fig3", log).values()
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert curve == [{name: record[name] for name in ("epoch", "valid_accuracy", "skip_gap")} for record in records]
    tau = kendalltau(*([record[name] for record in records] for name in ("valid_accuracy", "skip_gap"))).statistic
    assert capsys.readouterr().out.splitlines()[5].endswith(f"| {tau:.2f} |")


def test_fig3_names_searches_by_the_settings_in_which_they_differ(tmp_path, monkeypatch):
    logs = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    settings = {"space": "s2", "layers": 3, "dataset": "digits", "limit": None}
    assert list(ANALYZE.name_searches(logs).values()) == ["a", "b"]  # their supernets are not there
    for log in logs:
        log.with_suffix(".pt").touch()
    searches = [settings, settings | {"layers": 8, "dataset": "/far/away/birds"}]
    monkeypatch.setattr(runs, "load_search", lambda path: {"settings": searches["ab".index(path.stem)]})
    assert list(ANALYZE.name_searches(logs).values()) == ["s2, layers 3, dataset digits", "s2, layers 8, dataset birds"]
    assert list(ANALYZE.name_searches(logs[:1]).values()) == ["s2"]
    searches[1] = settings
    assert list(ANALYZE.name_searches(logs).values()) == ["a", "b"]


def test_table1_measures_before_and_after_every_shuffle(folder, tmp_path, capsys):
    path = folder / "nb201.pt"
    (tmp_path / "figure.resnet.pt").write_text("the ResNet of another table, which --resume must not find")
    found = run(tmp_path, "table1", "--ckpt", path)
    assert (tmp_path / "figure.1.resnet.pt").read_text().startswith("the ResNet of another")
    records, out = found["measured"], capsys.readouterr().out
    kinds = [(kind, number) for kind in ANALYZE.NETWORKS for number in range(3)]
    assert [(record["network"], record["shuffle"]) for record in records] == kinds
    trained = load_supernet(path)
    networks = {"DARTS supernet": (trained.bilevel.supernet, ANALYZE.shuffle_edges)}
    for kind, paper in (("VGG", "92.69 | 9.83 ± 0.33"), ("ResNet", "93.86 | 83.20 ± 2.03")):
        network, file = ANALYZE.Staged(kind, 3, 4, 10, 1), tmp_path / f"figure.{kind.lower()}.pt"
        network.load_state_dict(runs.load_checkpoint(file, "network")["state"]["network"])
        networks[kind] = (network.eval(), ANALYZE.shuffle_layers)
        control = copy.deepcopy(network)
        for module in control.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train().momentum = 0.0  # in training it uses the statistics of the batch
        networks[f"{kind} (batch statistics)"] = (control, ANALYZE.shuffle_layers)
        before, *after = (record["test_accuracy"] for record in records if record["network"] == kind)
        assert before not in after
        assert found["summary"][kind] == {"before": before, "after": after, "mean": mean(after), "sd": stdev(after)}
        assert f"| {kind} | {paper} | {before:.2f} | {mean(after):.2f} ± {stdev(after):.2f} |" in out
    for (kind, number), record in zip(kinds, records, strict=True):
        network, shuffle = networks[kind]
        with shuffle(network, random.Random(f"0 {kind.partition(' (')[0]} {number}")) if number else nullcontext():
            (measured,) = ptnas.evaluate(network, trained.data.test, SearchSettings.eval_batch_size)
        assert record["test_accuracy"] == measured.accuracy


def test_other_data_of_the_same_classes_can_be_measured_on(folder, tmp_path, monkeypatch):
    images = write_image_folder(tmp_path / "images", classes=tuple("0123456789"), mode="L")
    orders, evaluate = [], ptnas.evaluate

    def spy(network, data, *more):
        orders.append(tuple(data.labels[data.indices].tolist()))
        return evaluate(network, data, *more)

    monkeypatch.setattr(ptnas, "evaluate", spy)
    assert run(tmp_path, "table1", "--ckpt", folder / "nb201.pt", "--dataset", images)["datasets"] == [str(images)]
    # VGG and ResNet are tested in the order of the folder, that of the classes, after each of 6 epochs of training. A
    # batch of one class has its own statistics, so all measurements are in one other order.
    assert (orders.count(tuple(sorted(orders[0]))), len(set(orders)), len(orders)) == (12, 2, 12 + 15)


def test_cells_draws_published_ones_files_and_both_families(tmp_path):
    file, text = tmp_path / "mine.json", str(PUBLISHED["DARTS_V2"])
    file.write_text(json.dumps(PUBLISHED["DARTS_V2"]._asdict()))
    arch = "|skip_connect~0|+|nor_conv_3x3~0|none~1|+|nor_conv_1x1~0|avg_pool_3x3~1|nor_conv_3x3~2|"
    found = run(tmp_path, "cells", "DARTS_V2", file, arch, text, name="mine")
    assert (tmp_path / "mine.1.json").exists()  # the file was in the way of the numbers
    assert [each["text"] for each in found] == [text, text, arch, text]
    assert [found[place]["convolutions"] for place in (0, 2)] == [{"normal": 6, "reduce": 0}, {"cell": 3}]


@pytest.mark.parametrize(("command", "stop", "option"), [("fig1", 1, "--edges"), ("table1", 4, "--shuffles")])
def test_a_stopped_run_goes_on_to_the_same_end(command, stop, option, folder, tmp_path, monkeypatch, capsys):
    ckpt, follow = ["--ckpt", folder / "nb201.pt"], runs.Run.follow
    whole = run(tmp_path, command, *ckpt, name="whole")

    def stop_after_some(run, steps, total, unit):
        for record in follow(run, steps, total, unit):
            if run.kind == "analysis" and len(run.records) > stop:
                raise KeyboardInterrupt
            yield record

    monkeypatch.setattr(runs.Run, "follow", stop_after_some)
    arguments = [command, *map(str, ckpt), *OPTIONS[command], "--save", str(tmp_path / "stopped.png")]
    assert ANALYZE.main(arguments) == 130
    assert "--resume" in capsys.readouterr().err
    assert not (tmp_path / "stopped.json").exists()
    monkeypatch.undo()
    trained = [(path, runs.fingerprint(path)) for path in tmp_path.glob("stopped.vgg.pt")]
    resumed = run(tmp_path, command, *ckpt, "--resume", name="stopped")
    assert all(runs.fingerprint(path) == before for path, before in trained)  # VGG is not trained again
    for record in whole["measured"] + resumed["measured"]:
        del record["seconds"]
    assert resumed == whole
    run(tmp_path, command, *ckpt, "--resume", name="stopped")
    assert "nothing is left to do" in capsys.readouterr().out
    assert ANALYZE.main([*arguments, option, "3", "--resume"]) == 2
    assert f"was begun with {option[2:]} 2, and now it is 3" in capsys.readouterr().err
    assert ANALYZE.main(["cells", *arguments[-2:]]) == 2
    assert "belongs to a result of another command" in capsys.readouterr().err


def test_errors_of_the_user_become_one_line(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.jsonl").write_text("no log\n")
    ckpt = {name: ["--ckpt", str(folder / f"{name}.pt")] for name in ("supernet", "nb201", "decided", "none")}
    cases = [
        *(([command], "python train_search.py --space s2") for command in ("fig1", "fig2", "fig3", "table1")),
        (["fig1", *ckpt["supernet"], str(folder / "nb201.pt")], "differ in space"),
        (["fig1", *ckpt["nb201"], "--images", "2000"], "left 1181 images out"),
        (["fig1", *ckpt["none"]], "there is no file"),
        (["fig1", *ckpt["decided"]], "the search decided"),
        (["fig1", *ckpt["supernet"], "--dataset", "nothing"], "no data set"),
        (["fig1", *ckpt["supernet"], str(folder / "supernet.pt")], "the same file name"),
        (["fig1", *ckpt["supernet"], "--tune-epochs", "-1"], "at least 0 is needed"),
        (["fig2", *ckpt["decided"]], "the search decided"),
        (["fig2", *ckpt["nb201"], "--cell", "reduce"], "nb201 has cell"),
        (["fig3", "text.jsonl"], "not the log of a search"),
        (["fig3", str(folder / "s4.jsonl")], "no edge has both"),
        (["table1", *ckpt["supernet"], "--layers", "2"], "at least 3"),
        (["fig1", *ckpt["supernet"], "--save", str(folder / "supernet.png")], "holds a supernet"),
        (["fig2", *ckpt["supernet"], "--save", "figure.json"], "ends in .png"),
        (["cells", "--save", "no/cells.png"], "cannot write"),
    ]  # fmt: skip
    for arguments, message in cases:
        assert ANALYZE.main(arguments) == 2, arguments
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("analyze.py: error: ") and message in line, (arguments, line)
    assert [path.name for path in tmp_path.iterdir()] == ["text.jsonl"]
