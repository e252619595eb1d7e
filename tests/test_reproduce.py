"""Many runs in one folder: Tables 2-5, Fig. 4, 6 and 9."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from unittest.mock import Mock

import pytest
import torch

import runs
from genotypes import PUBLISHED
from tests.conftest import ROOT, blank, load_script

REPRODUCE = load_script("reproduce")
SCRIPTS = {f"{name}.py": load_script(name).main for name in ("train_search", "select", "retrain")}
SMALL = ["--epochs", "1", "--channels", "2", "--limit", "64"]
FAST = [*SMALL, "--layers", "1", "--tune-epochs", "0", "--threads", "1", "--seeds", "0"]


@pytest.fixture
def in_process(monkeypatch):
    """Runs the commands of a study in this process, quickly: networks for one epoch, no pictures of runs, the benchmark
    read once. Returns the list of their scripts."""
    ran, save_picture = [], runs.save_picture
    monkeypatch.setattr(runs, "load_benchmark", functools.cache(runs.load_benchmark))
    monkeypatch.setattr(
        runs, "save_picture", lambda path, draw: path.stem[:3] in ("fig", "tab") and save_picture(path, draw)
    )

    def run(line, stdout, stderr, **_):
        script, arguments = Path(line[1]).name, line[2:]
        ran.append(script)
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stdout if stderr else sys.stderr):
            status = SCRIPTS[script]((SMALL if script == "retrain.py" else []) + arguments)
        return Mock(poll=lambda: status, returncode=status)

    monkeypatch.setattr(REPRODUCE, "subprocess", Mock(Popen=run, STDOUT=subprocess.STDOUT))
    return ran


@pytest.fixture
def reproduce(tmp_path, capsys):
    """Runs reproduce.py on a folder; returns what it prints, or the line of its error."""

    def run(command, *flags):
        capsys.readouterr()
        status = REPRODUCE.main([command, "--folder", str(tmp_path), *map(str, flags)])
        out, err = capsys.readouterr()
        assert status in (0, 2)
        return out if status == 0 else next(line for line in err.splitlines() if line.startswith("reproduce.py: error"))

    return run


def read_rows(out):
    """Returns the rows of the tables in an output, by their first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows}


def write_network(path, error, top5=None, **changes):
    """Writes a network, what it was made of and how, as a study would, with what the tables read."""
    genotype, seed = path.with_name(f"{path.name.partition('.')[0]}.json"), path.name.partition(".")[0][-1]
    genotype.write_text(str(PUBLISHED["DARTS_V2"]))
    ledger = path.with_name("commands.json")
    content = json.loads(ledger.read_text()) if ledger.exists() else {"commands": {}}
    job = REPRODUCE.Job(path, ["retrain.py", "--arch", str(genotype), "--seed", seed], genotype)
    content.setdefault("commands", {})[path.name] = job.describe()
    ledger.write_text(json.dumps(content))
    record = {"epoch": 1, "test_error": error, "seconds": 1.0} | ({"test_error_top5": top5} if top5 else {})
    content = {"schema": runs.CHECKPOINT_SCHEMA, "kind": "network", "settings": {}, "state": {}, "records": [record]}
    content["settings"] = {"genotype": genotype.read_text()}
    content |= {"finished": True, "parameters": 3_300_000, "origin": {"seconds": {"search": 7200.0, "selection": 90.0}}}
    torch.save(content | changes, path)


# -------------------------------------------------------------------------------------------------- Tables 2, 3 and 5


def test_table_3_searches_selects_and_retrains_what_is_missing(tmp_path, in_process, reproduce):
    flags = ["--method", "DARTS", "--method", "SGAS", *FAST, "--layers", "3", "--space", "s2"]
    flags += ["--alpha-lr", "0.125", "--metric", "accuracy"]  # the preset has loss
    printed = reproduce("table3", "--run", *flags)
    assert sorted(in_process) == sorted(2 * list(SCRIPTS))
    content = json.loads((tmp_path / "table3.json").read_text())
    for result, name in zip(content["results"], ("darts", "sgas"), strict=True):
        network = torch.load(tmp_path / f"s2-digits-{name}-0.network.pt", weights_only=True)
        assert result["test_error"] == network["records"][-1]["test_error"]
        assert result["parameters"] == network["parameters"]
        assert (result["seconds"]["selection"] > 0) == (name == "darts"), "SGAS leaves nothing to select"
        assert read_rows(printed)[result["method"]][1] == f"{result['test_error']:.2f}"
    saved = json.loads((tmp_path / "commands.json").read_text())
    assert saved["setting"] == content["setting"]
    for made, read in (("darts-0.json", "alpha-bilevel-0.pt"), ("darts-0.network.pt", "darts-0.json")):
        assert runs.fingerprint(tmp_path / f"s2-digits-{read}") in saved["commands"][f"s2-digits-{made}"]
    in_process.clear()
    reproduce("table3", "--run", *flags)
    assert read_rows(reproduce("table3", *flags[:4])) == read_rows(printed), "the folder knows its setting"
    assert not in_process, "nothing is computed twice"
    wider = [*flags, "--retrain", "--channels 6"]
    assert "was begun with channels 2, and now it is 6" in reproduce("table3", "--run", *wider)
    for old in tmp_path.glob("*.network.*"):
        old.unlink()
    in_process.clear()
    reproduce("table3", "--run", *wider)
    assert in_process == ["retrain.py"] * 2, "only the networks are others"
    network = torch.load(tmp_path / "s2-digits-darts-0.network.pt", weights_only=True)
    supernet = torch.load(tmp_path / "s2-digits-alpha-bilevel-0.pt", weights_only=True)
    assert (network["settings"]["channels"], supernet["settings"]["alpha_lr"]) == (6, 0.125)
    assert json.loads((tmp_path / "s2-digits-darts-0.json").read_text())["metric"] == "accuracy"


@pytest.mark.parametrize("flags", [["--epochs", "2"], ["--run", "--epochs", "1", "--lr", "0.1"], ["--run"]])
def test_a_folder_takes_one_setting_only(tmp_path, in_process, reproduce, flags):
    setting = {"dataset": "digits", "preset": "laptop", "epochs": "1"}
    (tmp_path / "commands.json").write_text(json.dumps({"setting": setting}))
    write_network(tmp_path / "s2-digits-darts-0.network.pt", error=2.0)
    assert "give another --folder" in reproduce("table3", *flags)
    assert not in_process
    assert read_rows(reproduce("table3", "--epochs", "1"))["DARTS"][1] == "2.00"


def test_tables_2_and_5_stand_beside_the_figures_of_the_paper(tmp_path, reproduce):
    (tmp_path / "commands.json").write_text('{"setting": {"dataset": "cifar10", "preset": "paper"}}')
    for seed, error in enumerate((2.5, 2.7)):
        write_network(tmp_path / f"darts-cifar10-darts-pt-{seed}.network.pt", error)
    write_network(tmp_path / "darts+none-cifar10-sgas-0.network.pt", 2.75)
    write_network(tmp_path / "darts+none-cifar10-sgas-1.network.pt", 1.0, finished=False)
    write_network(tmp_path / "darts+none-cifar10-darts-pt-0.network.pt", 9.0)  # neither is of Table 2
    write_network(tmp_path / "darts-cifar10-darts-0.network.pt", 9.0)
    write_network(tmp_path / "s2-cifar10-darts-pt-0.network.pt", 8.0)
    printed = reproduce("table2")
    assert "--dataset cifar10 --preset paper" in printed
    rows, cost = read_rows(printed), ["-", "3.300", "2.02"]
    assert rows["DARTS+PT"] == ["2.61 ± 0.08, best 2.48, 3.0 M, 0.8 days", "2.60 ± 0.14", "2.50, 2.70", *cost]
    assert rows["SGAS"] == ["2.66 ± 0.24, 3.7 M, 0.25 days", "2.75", "2.75", *cost], "no unfinished network"
    assert "DARTS" not in rows
    genotype, network = (f"{tmp_path}/darts-cifar10-darts-pt-0.{end}" for end in ("json", "imagenet.pt"))
    assert f"retrain.py --arch {genotype} --dataset imagenet --data DIR --save {network}" in printed
    for seed, error, top5 in ((0, 25.0, 8.0), (1, 26.0, 9.0)):
        write_network(tmp_path / f"darts-cifar10-darts-pt-{seed}.imagenet.pt", error, top5)
    table2, table5 = map(read_rows, reproduce("table5").split("Table 5"))
    assert table2 == rows
    assert table5["DARTS+PT"][:4] == ["25.5, top-5 8.0, 4.6 M", "25.50 ± 0.71", "25.00, 26.00", "8.50 ± 0.71"]
    assert len(json.loads((tmp_path / "table2.json").read_text())["imagenet"]) == 2
    assert read_rows(reproduce("table3", "--space", "s2", "s2"))["DARTS+PT"][:3] == ["2.79", "8.00", "8.00"]
    moved = shutil.copytree(tmp_path, tmp_path.with_name("moved"))
    assert read_rows(reproduce("table3", "--space", "s2", "--folder", moved)) == read_rows(reproduce("table3"))
    (tmp_path / "darts-cifar10-darts-pt-0.json").write_text(str(PUBLISHED["DARTS_V1"]))
    assert "darts-pt-0.network.pt was not made from" in reproduce("table2")
    write_network(tmp_path / "darts-cifar10-darts-pt-0.network.pt", 2.5)
    write_network(tmp_path / "darts-cifar10-darts-pt-0.imagenet.pt", 2.5, settings={"genotype": "another"})
    assert "darts-pt-0.imagenet.pt was not made from" in reproduce("table5")


def test_in_table_2_darts_and_sgas_search_a_space_with_none(tmp_path, in_process, monkeypatch, reproduce):
    monkeypatch.setattr(REPRODUCE.Study, "run", lambda self, jobs: in_process.extend(job.command for job in jobs))
    assert "--run makes them" in reproduce("table2", "--run", "--seeds", "0")
    searches = dict.fromkeys(tuple(each[1:5]) for each in in_process if each[0] == "train_search.py")
    assert [" ".join(each) for each in searches] == [
        "--alpha bilevel --space darts+none", "--alpha bilevel --space darts", "--alpha fixed --space darts",
        "--noise uniform --space darts", "--sgas magnitude --space darts+none",
        "--sgas perturbation --space darts+none",
    ]  # fmt: skip


def test_a_folder_without_sound_networks_is_an_error(tmp_path, reproduce):
    for command in ("table2", "table3"):
        assert "--run makes them" in reproduce(command)
    write_network(tmp_path / "s1-digits-darts-0.network.pt", 2.0, origin={})
    assert "s1-digits-darts-0.network.pt is no network of a selected architecture" in reproduce("table3")
    (tmp_path / "s1-digits-darts-0.network.pt").write_bytes(b"nothing")
    assert "s1-digits-darts-0.network.pt is damaged" in reproduce("table3")


# ----------------------------------------------------------------------------------------------- Table 4 and Fig. 4


def test_fig_4_and_table_4_share_their_runs(tmp_path, benchmark, in_process, reproduce):
    flags = ["--benchmark", benchmark, *FAST, "--epochs", "2", "--keep-every", "1"]
    reproduce("fig4", *flags)
    assert in_process.count("train_search.py") == 2, "α bilevel and fixed"
    assert in_process.count("select.py") == 3 * 2, "three methods, two snapshots"
    points = [(each["method"], each["epoch"]) for each in json.loads((tmp_path / "fig4.json").read_text())["points"]]
    assert sorted(points) == sorted(itertools.product(REPRODUCE.MAIN_METHODS, (1, 2)))
    assert not blank(tmp_path / "fig4.png")
    rows = read_rows(reproduce("table4", *flags))
    reproduce("fig8", *flags)
    reproduce("fig4", *flags, "--method", REPRODUCE.UNTRAINED)
    assert [each["epoch"] for each in json.loads((tmp_path / "fig4.json").read_text())["points"]] == [0]
    assert len(in_process) == 10, "only the untrained supernet is new"
    for each in json.loads((tmp_path / "table4.json").read_text())["nb201"]:
        name = REPRODUCE.METHODS[each["method"]].slug
        assert each["test_error"] == json.loads((tmp_path / f"nb201-digits-{name}-0.json").read_text())["test_error"]
        assert rows[each["method"]][1:3] == 2 * [f"{each['test_error']['cifar10']:.2f}"]
    errors = {arch: values["cifar10"] for arch, values in runs.load_benchmark(benchmark).items()}
    assert rows["a random cell"][1].startswith(f"{mean(errors.values()):.2f} ± ")
    without_none = [error for arch, error in errors.items() if "none" not in arch]
    assert (len(without_none), rows["a random cell without `none`"][1][:5]) == (4**6, f"{mean(without_none):.2f}")
    assert float(rows["always the 3x3 convolution"][1]) == min(errors.values())
    assert not blank(tmp_path / "table4.png")


def test_methods_are_compared_by_seed_and_the_words_follow_the_interval():
    perturbation = {seed: 7.0 + 0.1 * seed for seed in range(10)}
    others = {
        "DARTS": {seed: 9.0 + seed for seed in range(10)},
        "DARTS+random": {seed: error + (-1) ** seed for seed, error in perturbation.items()},
        "DARTS+PT (fix α)": dict.fromkeys(range(2, 10), 6.0) | {99: 50.0},
    }
    records = REPRODUCE.compare_methods({"DARTS+PT": perturbation, "SGAS": {0: 1.0}, "SGAS+PT": {0: 2.0}, **others})
    found = {(each["method"], each["with"]): each for each in records}
    assert found.keys() == {
        ("DARTS", "DARTS+random"), ("DARTS+PT", "DARTS"), ("DARTS+PT", "DARTS+random"),
        ("DARTS+PT (fix α)", "DARTS+PT"), ("DARTS+PT (fix α)", "DARTS+random"),
    }  # fmt: skip
    darts, chance = found["DARTS+PT", "DARTS"], found["DARTS+PT", "DARTS+random"]
    assert darts["differences"] == pytest.approx([-2 - 0.9 * seed for seed in range(10)])
    assert (darts["lower"], darts["verdict"]) == ("10 of 10 seeds", "better")
    assert (chance["lower"], chance["verdict"]) == ("5 of 10 seeds", "no difference that these seeds could show")
    fixed = found["DARTS+PT (fix α)", "DARTS+PT"]
    assert (fixed["lower"], fixed["verdict"]) == ("8 of 8 seeds", "too few seeds"), "seeds that both have"
    (worse,) = REPRODUCE.compare_methods({"SGAS+PT": others["DARTS"], "SGAS": perturbation})
    assert worse["verdict"] == "worse"
    assert worse["interval"][0] > 0


def test_what_is_missing_is_computed_again_and_what_is_stale_is_refused(tmp_path, benchmark, in_process, reproduce):
    flags = ["--benchmark", benchmark, *FAST, "--seeds", "0", "1", "--method", "DARTS+PT (fix α)"]
    reproduce("table4", *flags)
    (tmp_path / "nb201-digits-darts-pt-fixed-1.json").unlink()
    reproduce("table4", *flags)
    assert in_process == 2 * ["train_search.py"] + 3 * ["select.py"]
    shutil.copy(tmp_path / "nb201-digits-alpha-fixed-0.pt", tmp_path / "nb201-digits-alpha-fixed-1.pt")
    assert "was begun with supernet" in reproduce("table4", *flags, "--jobs", "2"), "the supernet is another one"
    flags += ["--folder", str(tmp_path / "other"), "--epochs", "2"]
    reproduce("table4", *flags, "--keep-every", "2")
    assert "kept no" in reproduce("fig4", *flags, "--keep-every", "1")


def test_all_methods_share_five_searches_and_an_untrained_supernet(tmp_path, benchmark, in_process, reproduce):
    rows = read_rows(reproduce("table4", "--method", "all", "--benchmark", benchmark, *FAST, "--tune-epochs", "1"))
    assert (in_process.count("train_search.py"), in_process.count("select.py")) == (6, 11)
    wanted = {
        "darts": (1, "bilevel", "none", "none", "magnitude", 0, "bilevel"),
        "darts-pt": (1, "bilevel", "none", "none", "perturbation", 1, "bilevel"),
        "darts-pt-mag": (1, "bilevel", "none", "none", "magnitude", 1, "bilevel"),
        "darts-pt-mag-frozen": (1, "bilevel", "none", "none", "magnitude", 1, "fixed"),
        "darts-pt-fixed": (1, "fixed", "none", "none", "perturbation", 1, "fixed"),
        "sdarts-rs": (1, "bilevel", "uniform", "none", "magnitude", 0, "bilevel"),
        "sdarts-rs-pt": (1, "bilevel", "uniform", "none", "perturbation", 1, "bilevel"),
        "sgas": (1, "bilevel", "none", "magnitude", "magnitude", 0, "bilevel"),
        "sgas-pt": (1, "bilevel", "none", "perturbation", "perturbation", 0, "bilevel"),
        "darts-random": (1, "bilevel", "none", "none", "random", 0, "bilevel"),
        "darts-pt-untrained": (0, "bilevel", "none", "none", "perturbation", 1, "bilevel"),
    }
    for name, method in REPRODUCE.METHODS.items():
        found = json.loads((tmp_path / f"nb201-digits-{method.slug}-0.json").read_text())
        trained = tuple(found["search"][key] for key in ("epochs", "alpha", "noise", "sgas"))
        assert (*trained, found["criterion"], found["tune_epochs"], found["alpha"]) == wanted[method.slug]
        assert rows[name][1] == f"{found['test_error']['cifar10']:.2f}"


def test_a_study_says_first_what_it_will_run(tmp_path, benchmark, in_process, reproduce, monkeypatch, capsys):
    flags = ["--benchmark", benchmark, *FAST]
    announced, *rest = reproduce("table4", *flags).splitlines()
    assert announced == "to run: 3 searches and 4 selections, 2 at a time"
    assert read_rows("\n".join(rest))["DARTS+PT (untrained)"][0] == "-"
    assert "to run" not in reproduce("table4", *flags)
    monkeypatch.setattr(REPRODUCE.Study, "run", lambda *_: None)
    for command, searches, selections in (("table4", 9, 3 * 4), ("fig4", 6, 3 * 3 * 4)):
        assert REPRODUCE.main([command, "--folder", str(tmp_path / "new")]) == 2
        announced = capsys.readouterr().out
        assert announced == f"to run: {searches} searches and {selections} selections, 2 at a time\n"


# --------------------------------------------------------------------------------------------------- Fig. 6 and Fig. 9


@pytest.fixture(scope="module")
def supernet(tmp_path_factory):
    path = tmp_path_factory.mktemp("supernet") / "supernet.pt"
    assert SCRIPTS["train_search.py"](["--space", "nb201", "--layers", "1", *SMALL, "--save", str(path)]) == 0
    return path


def test_curves_are_printed_as_means_and_deviations(tmp_path, capsys):
    errors = {("DARTS", 5): (9.0, 11.0), ("DARTS", 10): (20.0, 24.0), ("SGAS", 10): (7.0,)}
    points = [
        {"method": method, "seed": seed, "epoch": epoch, "test_error": {"cifar10": value}}
        for (method, epoch), values in errors.items()
        for seed, value in enumerate(values)
    ]
    REPRODUCE.save_curves(tmp_path / "fig4.png", points, "epoch", "test_error", {})
    out = capsys.readouterr().out
    assert "true test error (%), cifar10" in out
    rows = read_rows(out)
    assert rows["epoch of the search"] == ["DARTS", "SGAS"]
    assert (rows["5"], rows["10"]) == (["10.00 ± 1.41", "-"], ["22.00 ± 2.83", "7.00"])


def test_fig_6_draws_the_logs_of_selections(supernet, tmp_path, capsys):
    logs = [tmp_path / f"{criterion}.jsonl" for criterion in ("perturbation", "magnitude")]
    for log in logs:
        flags = ["--criterion", log.stem, "--tune-epochs", "0", "--save", str(log.with_suffix(".json"))]
        assert SCRIPTS["select.py"](["--ckpt", str(supernet), *flags]) == 0
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
        ([tmp_path / "nothing.jsonl"], "there is no file"),
        ([supernet], "holds a supernet, and a selection is needed"),
        ([*logs, logs[0]], "another selection by perturbation with seed 0"),
        ([logs[0], "--save", logs[0].with_suffix(".png")], "not that of a run"),
        ([logs[0], "--save", tmp_path / "fig6.json"], "ends in .png"),
    ):
        capsys.readouterr()
        assert REPRODUCE.main(["fig6", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err


def test_fig_9_selects_with_every_number_of_tuning_epochs(supernet, finished, tmp_path, in_process, reproduce):
    flags = ["--ckpt", supernet, "--threads", "1", "--tune-epochs", "0", "1", "1"]
    reproduce("fig9", *flags)
    assert not blank(tmp_path / "fig9.png")
    points = json.loads((tmp_path / "fig9.json").read_text())["points"]
    assert [point["tune_epochs"] for point in points] == [0, 1]
    for point in points:
        saved = json.loads((tmp_path / f"supernet.tune{point['tune_epochs']}.json").read_text())
        assert saved["tune_epochs"] == point["tune_epochs"]
        assert point["test_error"] == saved["test_error"]
        assert point["method"] == "α bilevel, 1 epochs"
        rounds = [json.loads(line) for line in (tmp_path / f"supernet.tune{point['tune_epochs']}.jsonl").open()]
        gains = [each["valid_accuracy"] - each["discretised_accuracy"] for each in rounds]
        assert point["recovered"] == {"nb201": pytest.approx(mean(gains))}
    assert points[0]["recovered"] == {"nb201": 0.0}
    assert not blank(tmp_path / "fig9-recovered.png")
    assert len(in_process) == 2
    assert json.loads((tmp_path / "fig9.json").read_text())["average"].keys() == set(runs.BENCHMARKED)
    assert "the same file name" in reproduce("fig9", *flags, "--ckpt", supernet, supernet)
    shutil.copy(finished / "supernet.pt", tmp_path / "s2.pt")
    reproduce("fig9", "--ckpt", tmp_path / "s2.pt", "--threads", "1", "--tune-epochs", "0")
    (point,) = json.loads((tmp_path / "fig9.json").read_text())["points"]
    saved = json.loads((tmp_path / "s2.tune0.json").read_text())
    assert point["valid_accuracy"] == {"s2": saved["valid_accuracy"]}


@pytest.mark.parametrize("jobs", [1, 2])
def test_after_a_failure_nothing_is_started_and_its_error_is_shown(tmp_path, benchmark, in_process, reproduce, jobs):
    error = reproduce(
        "table4", "--benchmark", benchmark, *FAST, "--seeds", 0, 1, "--dataset", "nowhere", "--jobs", jobs
    )
    assert "train_search.py --alpha bilevel --space nb201 --dataset nowhere" in error
    assert jobs == 1 or "nowhere" in error.split(": train_search.py: error: ")[1]
    assert in_process == jobs * ["train_search.py"]
    assert not (tmp_path / "commands.json").exists(), "a setting without a result binds nobody"


def test_a_study_that_is_stopped_ends_its_runs_and_goes_on(tmp_path, benchmark, in_process, reproduce):
    flags = ["--benchmark", benchmark, *FAST, "--seeds", 0, 1, "--tune-epochs", 12, "--jobs", 2, "--method", "DARTS+PT"]
    line = map(str, [sys.executable, ROOT / "reproduce.py", "table4", "--folder", tmp_path, *flags])
    study = subprocess.Popen(list(line), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    logs = [tmp_path / f"nb201-digits-darts-pt-{seed}.jsonl" for seed in (0, 1)]
    while not all(log.exists() and len(log.read_text().splitlines()) > 1 for log in logs):
        assert study.poll() is None
        time.sleep(0.05)
    assert "another run is writing to" in reproduce("table4", *flags), "one study at a time"
    study.send_signal(signal.SIGTERM)
    _, err = study.communicate()
    assert study.returncode == 128 + signal.SIGTERM
    assert err.splitlines()[-1].startswith("reproduce.py: stopped by SIGTERM; to go on: python reproduce.py table4")
    assert "Traceback" not in err
    assert len(json.loads((tmp_path / "commands.json").read_text())["commands"]) == 2, "the searches"
    before = [log.read_text().splitlines() for log in logs]
    assert min(map(len, before)) < 6, "of six rounds"
    reproduce("table4", *flags)
    assert in_process == ["select.py", "select.py"]
    for log, lines in zip(logs, before, strict=True):
        assert log.read_text().splitlines()[0] == lines[0], "it went on"
        assert len(log.read_text().splitlines()) == 6


@pytest.mark.parametrize("content", ["{", "[1]", "3", "\0", '{"setting": 1, "commands": {}}'])
def test_a_damaged_list_of_commands_is_an_error(tmp_path, benchmark, reproduce, content):
    (tmp_path / "commands.json").write_text(content)
    assert "commands.json is no list of commands" in reproduce("table4", "--benchmark", benchmark)


def test_a_file_is_no_folder_and_torchrun_is_refused(tmp_path, benchmark, reproduce, monkeypatch):
    (tmp_path / "file").write_text("")
    assert "file" in reproduce("table4", "--benchmark", benchmark, "--folder", tmp_path / "file")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert "without torchrun" in reproduce("table4", "--benchmark", benchmark)


# ---------------------------------------------------------------------------------------------------------- Everything
