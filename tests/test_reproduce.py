"""Many runs in one folder: Tables 2-5, Fig. 4, 6 and 9."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess

import pytest
import torch
from PIL import Image

import runs
from genotypes import SPACES, Arch
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


# ----------------------------------------------------------------------------------------------- Table 4 and Fig. 4


ALL = [Arch(operations) for operations in itertools.product(*SPACES["nb201"].operations["cell"])]


def accuracies(arch):
    """Some accuracies that differ between architectures: percent on the three data sets."""
    convolutions = sum("3x3" in name and "conv" in name for name in arch.operations)
    nothing = sum(name == "none" for name in arch.operations)
    return 80 + 2 * convolutions - nothing, 60 + convolutions, 30 + 0.5 * convolutions


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark") / "nb201.csv"
    rows = (f"{arch},{','.join(map(str, accuracies(arch)))}" for arch in ALL)
    path.write_text("\n".join(["arch,cifar10,cifar100,imagenet16-120", *rows, ""]))
    return path


def test_fig4_and_table4_share_their_runs_and_compute_nothing_twice(tmp_path, benchmark, in_process, capsys):
    flags = ["--benchmark", str(benchmark), "--seeds", "0", "1", *SMALL, "--keep-every", "1", "--tune-epochs", "0"]
    flags += ["--folder", str(tmp_path)]
    assert REPRODUCE.main(["fig4", *flags]) == 0
    searches = [arguments for arguments in in_process if "--space" in arguments]
    assert len(searches) == 4, "two seeds, bilevel and fixed"
    assert len(in_process) == 4 + 3 * 2 * 2, "three methods, two seeds, two snapshots"
    points = json.loads((tmp_path / "fig4.json").read_text())["points"]
    keys = {(point["method"], point["seed"], point["epoch"]) for point in points}
    assert keys == set(itertools.product(REPRODUCE.OF_SECTION_6, (0, 1), (1, 2)))
    with Image.open(tmp_path / "fig4.png") as image:
        assert len(image.convert("RGB").getcolors(10**6)) > 50, "not blank"
    assert REPRODUCE.main(["table4", *flags]) == 0
    assert REPRODUCE.main(["fig4", *flags]) == 0
    assert len(in_process) == 16
    table = json.loads((tmp_path / "table4.json").read_text())["nb201"]
    test_errors = {(each["method"], each["seed"]): each["test_error"] for each in table}
    for name in REPRODUCE.OF_SECTION_6:
        method = REPRODUCE.METHODS[name]
        for seed in (0, 1):
            path = tmp_path / f"nb201-digits-{method.alpha}-{seed}.{method.selection}.json"
            saved = json.loads(path.read_text())
            assert test_errors[name, seed] == saved["test_error"]
            assert (saved["search"]["alpha"], saved["criterion"]) == (method.alpha, method.criterion)
            assert saved["seed"] == saved["search"]["seed"] == seed
    (tmp_path / "nb201-digits-fixed-1.perturbation.json").unlink()
    assert REPRODUCE.main(["table4", *flags]) == 0
    assert len(in_process) == 17, "what is missing is computed again"
    assert REPRODUCE.main(["fig4", *flags, "--keep-every", "3", "--epochs", "4"]) == 2, "settings were changed"
    capsys.readouterr()
    shutil.copy(tmp_path / "nb201-digits-fixed-0.pt", tmp_path / "nb201-digits-fixed-1.pt")
    assert REPRODUCE.main(["table4", *flags]) == 2
    assert "was begun with supernet" in capsys.readouterr().err, "no stale result"
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    assert REPRODUCE.main(["table4", *flags]) == 0
    out = capsys.readouterr().out
    assert "| DARTS | 45.70 |" in out
    assert "| a random architecture |" in out


def test_a_study_tells_what_failed(tmp_path, benchmark, in_process, capsys):
    flags = ["--benchmark", str(benchmark), "--seeds", "0", "--dataset", "nowhere", "--folder", str(tmp_path)]
    assert REPRODUCE.main(["table4", *flags]) == 2
    assert "train_search.py --space nb201 --dataset nowhere" in capsys.readouterr().err
    assert len(in_process) == 1, "nothing is started after a failure"


@pytest.mark.parametrize("content", ["{", "[1]", "3", "\0"])
def test_a_folder_that_is_no_place_for_a_study_is_an_error(tmp_path, benchmark, in_process, content, capsys):
    (tmp_path / "commands.json").write_text(content)
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "file"):
        assert REPRODUCE.main(["table4", "--benchmark", str(benchmark), "--folder", str(folder)]) == 2
        assert "cannot work in" in capsys.readouterr().err


def test_fig4_says_which_snapshots_are_missing(tmp_path, benchmark, in_process, capsys):
    flags = ["--benchmark", str(benchmark), "--seeds", "0", *SMALL, "--folder", str(tmp_path)]
    flags += ["--method", "DARTS", "--tune-epochs", "0"]
    assert REPRODUCE.main(["table4", *flags]) == 0
    assert REPRODUCE.main(["fig4", *flags, "--keep-every", "1"]) == 2
    assert "no nb201-digits-bilevel-0.epoch001.pt" in capsys.readouterr().err


def test_table4_as_a_command_of_its_own(tmp_path, benchmark, capsys):
    flags = ["--benchmark", str(benchmark), "--seeds", "7", *SMALL, "--tune-epochs", "0", "--folder", str(tmp_path)]
    assert REPRODUCE.main(["table4", "--method", "DARTS+PT (fix α)", "--jobs", "2", *flags]) == 0
    found = json.loads((tmp_path / "nb201-digits-fixed-7.perturbation.json").read_text())
    assert f"| DARTS+PT (fix α) | 6.20 | {found['test_error']['cifar10']:.2f} |" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "commands.json").read_text())) == {
        "nb201-digits-fixed-7.pt", "nb201-digits-fixed-7.perturbation.json"
    }  # fmt: skip


def test_all_eight_methods_share_five_searches(tmp_path, benchmark, in_process, capsys):
    flags = ["table4", "--method", "all", "--benchmark", str(benchmark), "--seeds", "0", *SMALL, "--tune-epochs", "1"]
    assert REPRODUCE.main([*flags, "--folder", str(tmp_path)]) == 0
    assert len(in_process) == 5 + 8
    out = capsys.readouterr().out
    assert "| SGAS+PT | - |" in out
    assert "| DARTS | 45.70 |" in out
    errors = {
        each["method"]: each["test_error"] for each in json.loads((tmp_path / "table4.json").read_text())["nb201"]
    }
    assert errors.keys() == REPRODUCE.METHODS.keys()
    for name, method in REPRODUCE.METHODS.items():
        found = json.loads((tmp_path / f"nb201-digits-{method.search}-0.{method.selection}.json").read_text())
        assert tuple(found["search"][key] for key in ("alpha", "noise", "sgas")) == method[:3]
        assert errors[name] == found["test_error"]
        assert REPRODUCE.method_of(found) == name
        assert len([made for made in found["decisions"] if "edge" in made]) == 6, "SGAS too decides all six edges"


def test_the_darts_row_of_table_4_has_the_results_of_the_paper_preset(tmp_path, benchmark, in_process, capsys):
    network(tmp_path / "a.pt", space="darts", error=2.5)
    network(tmp_path / "b.pt", space="darts+none", error=2.6, seed=1)
    network(tmp_path / "c.pt", space="darts", preset="laptop", error=30.0)
    network(tmp_path / "d.pt", space="s2", error=40.0)
    flags = ["--benchmark", str(benchmark), "--seeds", "0", *SMALL, "--tune-epochs", "0", "--folder", str(tmp_path)]
    assert REPRODUCE.main(["table4", "--method", "DARTS+PT", *flags]) == 0
    assert "| 2.61 ± 0.08 | 2.55 ± 0.07 |" in capsys.readouterr().out
    assert json.loads((tmp_path / "table4.json").read_text())["darts_space"] == {"DARTS+PT": [2.5, 2.6]}


def test_luck_is_the_chance_of_a_mean_as_low():
    assert REPRODUCE.luck([1.0], [1.0, 2.0, 3.0, 4.0], draws=20_000) == pytest.approx(1 / 4, abs=0.02)
    assert REPRODUCE.luck([1.0, 1.0], [1.0, 2.0, 3.0, 4.0], draws=20_000) == pytest.approx(1 / 16, abs=0.01)
    assert REPRODUCE.luck([4.0, 4.0], [1.0, 2.0, 3.0, 4.0], draws=100) == 1.0
