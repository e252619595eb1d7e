"""Tables 2, 3 and 5 from saved results, Fig. 6 and Fig. 9, and that every method is reached by the commands."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import torch

import runs
from genotypes import SPACES
from tests.conftest import blank, load_script

REPRODUCE = load_script("reproduce")
SCRIPTS = {f"{name}.py": load_script(name).main for name in ("train_search", "select", "retrain")}
SMALL = ["--epochs", "1", "--channels", "2", "--limit", "64", "--tune-epochs", "1"]


@pytest.fixture
def in_process(monkeypatch):
    """The commands of a study run in this process, networks for an epoch; returns the list of them."""
    ran = []

    def run(command, children, stopping, **_):
        ran.append(command)
        more = ["--epochs", "1", "--channels", "2", "--limit", "64"] if command[0] == "retrain.py" else []
        return subprocess.CompletedProcess(command, SCRIPTS[command[0]](command[1:] + more), "done\n", "failed\n")

    monkeypatch.setattr(REPRODUCE, "run_script", run)
    return ran


def printed_rows(out):
    """The rows of the tables in an output, by their first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows}


# ---------------------------------------------------------------------------------------------------- Tables 2 and 3


def test_table_3_searches_selects_and_retrains_what_is_missing(tmp_path, in_process):
    methods = ["DARTS", "SGAS"]
    flags = ["table3", "--run", *(text for name in methods for text in ("--method", name)), *SMALL]
    flags += ["--space", "s2", "--seeds", "0", "--folder", str(tmp_path)]
    assert REPRODUCE.main(flags) == 0
    assert len(in_process) == 3 * len(methods)
    results = {each["method"]: each for each in json.loads((tmp_path / "table3.json").read_text())}
    assert list(results) == methods
    for name in methods:
        method = REPRODUCE.METHODS[name]
        path = tmp_path / f"s2-digits-{method.search}-0.{method.selection}.json"
        found = json.loads(path.read_text())
        assert {"edge" if "edge" in made else "node" for made in found["decisions"]} == {"edge", "node"}
        content = torch.load(path.with_suffix(".network.pt"), weights_only=True)
        assert results[name]["test_error"] == content["records"][-1]["test_error"]
        assert results[name]["parameters"] == content["parameters"]
        seconds = results[name]["seconds"]
        records = torch.load(tmp_path / f"s2-digits-{method.search}-0.pt", weights_only=True)["records"]
        assert seconds["search"] == pytest.approx(sum(each["seconds"] for each in records), abs=0.01)
        assert (seconds["selection"] > 0) == (method.sgas == "none"), "SGAS leaves nothing to select"
    in_process.clear()
    assert REPRODUCE.main(flags) == 0
    assert not in_process, "nothing is computed twice"


def network(
    path, method="DARTS+PT", space="s2", dataset="cifar10", preset="paper", error=2.5, top5=None, seed=0, **how
):
    """A saved network with all that the tables read of it; `how`: settings of the search, and `tune_epochs`."""
    of = REPRODUCE.METHODS[method]
    search = {"dataset": "cifar10", "preset": preset, "seed": seed, "limit": None, "layers": 8, "channels": 16}
    search |= {"epochs": 50, "alpha": of.alpha, "noise": of.noise, "sgas": of.sgas} | how
    origin = {"space": space, "dataset": "cifar10", "preset": preset, "criterion": of.criterion, "metric": "accuracy"}
    origin |= {"tune_epochs": how.get("tune_epochs", 5) if of.tuned else 0, "search": search}
    search.pop("tune_epochs", None)
    origin["seconds"] = {"search": 7200.0, "selection": 90.0}
    settings = {"dataset": dataset, "preset": preset, "seed": seed, "limit": None, "image_size": 32, "layers": 20}
    settings |= {"channels": 36, "epochs": 600, "genotype": f"found by {method}", "data": None}
    accuracies = {"train_accuracy": 99.0, "train_loss": 0.1, "test_accuracy": 100 - error, "test_loss": 0.2}
    records = [{"epoch": 600, "test_error": error, **accuracies, "seconds": 1.0}]
    records[0] |= {"test_error_top5": top5} if top5 else {}
    content = {"schema": 2, "kind": "network", "settings": settings, "finished": True}
    content |= {"state": {"done": 1, "progress": []}, "random": None, "seconds": 0.0}
    content |= {"records": records, "parameters": 3_300_000, "origin": origin}
    runs.save_checkpoint(path, content)
    return content


def test_table_3_compares_only_what_has_the_same_setting(tmp_path, capsys):
    for seed, error in ((10, 4.0), (0, 2.0), (2, 3.0)):
        network(tmp_path / f"s2-{seed}.pt", seed=seed, error=error)
    network(tmp_path / "s2-2.1.pt", seed=2, error=9.5)  # an earlier result, moved aside
    os.utime(tmp_path / "s2-2.1.pt", (1, 1))
    network(tmp_path / "magnitude.pt", method="DARTS", error=9.0)
    network(tmp_path / "tuned.pt", method="DARTS+PT-Mag", error=8.0)
    network(tmp_path / "s4.pt", space="s4", method="DARTS+PT (fix α)", error=2.75)
    network(tmp_path / "longer.pt", epochs=60, error=1.0)
    network(tmp_path / "other.pt", preset="laptop", error=1.5)
    network(tmp_path / "rate.pt", lr=0.5, error=1.6)
    network(tmp_path / "tuning.pt", tune_epochs=1, error=1.7)
    network(tmp_path / "darts.pt", space="darts", error=1.25)
    unfinished = network(tmp_path / "unfinished.pt", error=0.5)
    runs.save_checkpoint(tmp_path / "unfinished.pt", unfinished | {"finished": False})
    (tmp_path / "damaged.pt").write_bytes(b"nothing")
    runs.save_checkpoint(tmp_path / "published.pt", unfinished | {"origin": {}})
    assert REPRODUCE.main(["table3", "--folder", str(tmp_path)]) == 0
    tables = [(text, printed_rows(text)) for text in capsys.readouterr().out.split("\nTable 3:")[1:]]
    assert len(tables) == 5
    rows = next(rows for _, rows in tables if "2.00" in rows["S2"][5])
    assert rows["S2"] == ["4.85", "9.00", "9.00", "2.79", "3.00 ± 1.00", "2.00, 3.00, 4.00", "2.59", "-", "-"]
    assert rows["S4"] == ["7.20", "-", "-", "2.64", "-", "-", "2.58", "2.75", "2.75"]
    assert rows["S1"] == ["3.84", "-", "-", "3.50", "-", "-", "2.86", "-", "-"]
    of_others = {rows["S2"][4]: (text.splitlines()[0], rows["S2"][1]) for text, rows in tables}
    assert "60 epochs" in of_others["1.00"][0]
    assert "laptop" in of_others["1.50"][0]
    assert of_others["1.60"][1] == "-"
    assert of_others["1.70"] == (of_others["3.00 ± 1.00"][0].replace("tuning: 5", "tuning: 1"), "9.00")


def test_tables_2_and_5_stand_beside_the_figures_of_the_paper(tmp_path, capsys):
    for seed, error in enumerate((2.5, 2.7)):
        network(tmp_path / f"{seed}.pt", space="darts", seed=seed, error=error)
    network(tmp_path / "smoothed.pt", space="darts", method="SDARTS-RS", error=2.75)
    network(tmp_path / "uniform.pt", space="darts", method="SDARTS-RS", error=2.25, noise="uniform")
    network(tmp_path / "none.pt", space="darts+none", error=9.0)
    for seed, error, top5 in ((0, 25.0, 8.0), (1, 26.0, 9.0)):
        network(tmp_path / f"imagenet{seed}.pt", space="darts", dataset="imagenet", seed=seed, error=error, top5=top5)
    assert REPRODUCE.main(["table2", "--folder", str(tmp_path)]) == 0
    of_table2, of_table5 = (printed_rows(text) for text in capsys.readouterr().out.split("\nTable 5"))
    paper, cost = ["2.61 ± 0.08", "2.48", "3.0", "0.8"], ["3.300", "2.0 h", "90 s"]
    assert of_table2["DARTS+PT"] == [*paper, "2.60 ± 0.14", "2.50", "2.50, 2.70", *cost]
    assert of_table2["SDARTS-RS"] == ["2.67 ± 0.03", "-", "3.4", "0.4", "2.75", "2.75", "2.75", *cost]
    assert of_table2["SDARTS-RS, uniform"] == [*4 * "-", "2.25", "2.25", "2.25", *cost]
    assert of_table5["DARTS+PT"] == ["25.5, 8.0, 4.6", "25.50 ± 0.71", "8.50 ± 0.71", "3.3"]
    assert REPRODUCE.main(["table2", "--folder", str(tmp_path), "--space", "darts+none"]) == 0
    assert printed_rows(capsys.readouterr().out)["DARTS+PT"][4] == "9.00"


def test_results_of_the_paper_have_its_preset_throughout(tmp_path):
    network(tmp_path / "a.pt", space="darts", error=2.5)
    content = network(tmp_path / "b.pt", space="darts", seed=1)
    content["origin"]["search"]["preset"] = "laptop"
    runs.save_checkpoint(tmp_path / "b.pt", content)
    assert [each.paper for each in REPRODUCE.saved_results(tmp_path)] == [True, False]


def test_a_folder_without_results_is_an_error(tmp_path, capsys):
    for command in ("table2", "table3"):
        assert REPRODUCE.main([command, "--folder", str(tmp_path)]) == 2
        assert "--run makes them" in capsys.readouterr().err


def test_a_method_is_told_by_its_search_and_its_selection():
    search = {"alpha": "bilevel", "noise": "none", "sgas": "none"}

    def found(criterion, tune_epochs, **changes):
        return REPRODUCE.method_of({"search": search | changes, "criterion": criterion, "tune_epochs": tune_epochs})

    assert found("magnitude", 0) == "DARTS"
    assert found("magnitude", 5) == "DARTS+PT-Mag"
    assert found("perturbation", 5) == found("perturbation", 0) == "DARTS+PT"
    assert found("perturbation", 5, alpha="fixed") == "DARTS+PT (fix α)"
    assert found("magnitude", 0, noise="gaussian") == "SDARTS-RS"
    assert found("perturbation", 5, sgas="magnitude") == found("magnitude", 0, sgas="magnitude") == "SGAS"
    assert found("magnitude", 0, sgas="perturbation") == "SGAS+PT"
    assert found("random", 0) is None
    assert found("perturbation", 5, noise="uniform") == "SDARTS-RS+PT, uniform"
    before = {"search": {"alpha": "bilevel"}, "criterion": "perturbation", "tune_epochs": 5}
    assert REPRODUCE.method_of(before) == "DARTS+PT", "of a search before there were others"


# --------------------------------------------------------------------------------------------------- Fig. 6 and Fig. 9


@pytest.fixture(scope="module")
def supernet(tmp_path_factory):
    path = tmp_path_factory.mktemp("supernet") / "supernet.pt"
    flags = ["--epochs", "1", "--channels", "2", "--limit", "64", "--save", str(path)]
    assert SCRIPTS["train_search.py"](["--space", "nb201", *flags]) == 0
    return path


def test_fig6_draws_the_logs_of_selections(supernet, tmp_path, capsys):
    logs = []
    for criterion in ("perturbation", "magnitude"):
        save = tmp_path / f"{criterion}.json"
        flags = ["--criterion", criterion, "--tune-epochs", "1", "--save", str(save)]
        assert SCRIPTS["select.py"](["--ckpt", str(supernet), *flags]) == 0
        logs.append(save.with_suffix(".jsonl"))
    picture = tmp_path / "fig6.png"
    assert REPRODUCE.main(["fig6", *map(str, logs), "--save", str(picture)]) == 0
    assert not blank(picture)
    points = json.loads(picture.with_suffix(".json").read_text())["points"]
    for log in logs:
        records = [json.loads(line) for line in log.read_text().splitlines()]
        own = [point["valid_accuracy"]["nb201"] for point in points if point["method"] == log.stem]
        assert own == [record["valid_accuracy"] for record in records]
        assert len(own) == 6
    for arguments, message in (
        ([str(tmp_path / "nothing.jsonl")], "there is no file"),
        ([str(logs[0].with_suffix(".json"))], "the log of a selection"),
        ([*map(str, logs), str(logs[0])], "another selection by perturbation with seed 0"),
        ([str(logs[0]), "--save", str(logs[0].with_suffix(".png"))], "not that of a run"),
        ([str(logs[0]), "--save", str(tmp_path / "fig6.json")], "ends in .png"),
    ):
        capsys.readouterr()
        assert REPRODUCE.main(["fig6", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_fig9_selects_with_every_number_of_tuning_epochs(supernet, tmp_path, in_process, capsys):
    flags = ["--ckpt", str(supernet), "--folder", str(tmp_path), "--tune-epochs", "0", "1", "1"]
    assert REPRODUCE.main(["fig9", *flags]) == 0
    assert not blank(tmp_path / "fig9.png")
    points = json.loads((tmp_path / "fig9.json").read_text())["points"]
    for point in points:
        saved = json.loads((tmp_path / f"supernet.tune{point['tune_epochs']}.json").read_text())
        assert saved["tune_epochs"] == point["tune_epochs"]
        assert point["valid_accuracy"] == {"nb201": saved["valid_accuracy"]}
        assert point["method"] == "DARTS+PT"
    assert [point["tune_epochs"] for point in points] == [0, 1]
    assert len(in_process) == 2
    assert REPRODUCE.main(["fig9", *flags, "--ckpt", str(supernet), str(supernet)]) == 2
    assert "two supernets have the name" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------- SGAS end to end


@pytest.mark.parametrize("criterion", ["magnitude", "perturbation"])
@pytest.mark.parametrize("space", ["s2", "nb201"])
def test_select_writes_the_genotype_of_a_supernet_that_sgas_has_decided(space, criterion, tmp_path, capsys):
    path, save = tmp_path / "supernet.pt", tmp_path / "genotype.json"
    flags = ["--space", space, "--epochs", "3", "--channels", "2", "--limit", "64", "--save", str(path)]
    assert SCRIPTS["train_search.py"]([*flags, "--sgas", criterion]) == 0
    assert SCRIPTS["select.py"](["--ckpt", str(path), "--save", str(save)]) == 0
    said = capsys.readouterr()
    assert "were decided during the search; none is left to select" in said.err
    found = json.loads(save.read_text())
    assert found["search"]["sgas"] == criterion
    records = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    assert found["decisions"] == [made for record in records for made in record["decisions"]]
    edges = [made for made in found["decisions"] if "edge" in made]
    assert len(edges) == (6 if space == "nb201" else 16)
    architecture, _ = runs.load_architecture(str(save))
    for made in edges:
        source, node = made["edge"]
        assert (made["operation"], source, node) in architecture.cells[made["cell"]].operations
    assert found["valid_accuracy"] == pytest.approx(records[-1]["valid_accuracy"]), "nothing changed since"
    assert not blank(save.with_suffix(".png"))
    assert not blank(path.with_suffix(".png"))
    again = save.read_bytes()
    assert SCRIPTS["select.py"](["--ckpt", str(path), "--save", str(save), "--resume"]) == 0
    assert save.read_bytes() == again


def test_a_stopped_sgas_search_goes_on_as_if_nothing_had_happened(tmp_path):
    logs = []
    for name, stops in (("through", False), ("stopped", True)):
        path = tmp_path / f"{name}.pt"
        flags = ["--space", "s3", "--epochs", "4", "--channels", "2", "--limit", "64", "--save", str(path)]
        flags += ["--sgas", "magnitude", "--noise", "gaussian", "--keep-every", "2"]
        assert SCRIPTS["train_search.py"](flags) == 0
        if stops:
            runs.snapshot(path, 2).replace(path)
            assert SCRIPTS["train_search.py"]([*flags, "--resume"]) == 0
        records = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
        logs.append([{**record, "seconds": 0} for record in records])
    assert logs[0] == logs[1]


def test_what_sgas_has_left_undecided_is_selected(tmp_path):
    path, save = tmp_path / "supernet.pt", tmp_path / "genotype.json"
    flags = ["--space", "s3", "--epochs", "4", "--channels", "2", "--limit", "64", "--save", str(path)]
    assert SCRIPTS["train_search.py"]([*flags, "--sgas", "magnitude", "--keep-every", "1"]) == 0
    snapshot = runs.snapshot(path, 2)
    before = [made for made in torch.load(snapshot, weights_only=True)["state"]["decisions"] if "edge" in made]
    assert 0 < len(before) < 16
    assert SCRIPTS["select.py"](["--ckpt", str(snapshot), "--tune-epochs", "0", "--save", str(save)]) == 0
    decisions = json.loads(save.read_text())["decisions"]
    kept = [made for made in decisions if "edge" in made]
    assert kept[: len(before)] == before
    assert len(kept) > len(before)
    assert len({(made["cell"], *made["edge"]) for made in kept}) == len(kept), "no edge is decided twice"
    architecture, _ = runs.load_architecture(str(save))
    for made in before:
        source, node = made["edge"]
        stands = [o for o, s, n in architecture.cells[made["cell"]].operations if (s, n) == (source, node)]
        assert stands in ([made["operation"]], [])
    assert len(architecture.normal) == sum(SPACES["s3"].keeps(node) for node in SPACES["s3"].nodes)


def test_sgas_with_fixed_alpha_is_refused(tmp_path, capsys):
    flags = ["--space", "s2", "--alpha", "fixed", "--sgas", "magnitude", "--save", str(tmp_path / "s.pt")]
    assert SCRIPTS["train_search.py"](flags) == 2
    assert "orders the edges by α" in capsys.readouterr().err
