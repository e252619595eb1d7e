"""NAS-Bench-201 end to end: the commands on its space, true errors from a benchmark, Table 4 and Fig. 4."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess

import pytest
import torch
from PIL import Image

import runs
from genotypes import SPACES, Arch
from runs import UserError, load_benchmark
from tests.conftest import load_script
from tests.test_reproduce import network

REPRODUCE = load_script("reproduce")
train_search, select, retrain, reproduce = (
    load_script(name).main for name in ("train_search", "select", "retrain", "reproduce")
)
SMALL = ["--epochs", "2", "--channels", "4", "--limit", "100"]
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


# ---------------------------------------------------------------------------------------------------- the commands


@pytest.fixture(scope="module")
def finished(tmp_path_factory, benchmark):
    folder = tmp_path_factory.mktemp("finished")
    supernet, genotype = str(folder / "supernet.pt"), str(folder / "genotype.json")
    assert train_search(["--space", "nb201", *SMALL, "--keep-every", "1", "--save", supernet]) == 0
    flags = ["--tune-epochs", "1", "--benchmark", str(benchmark), "--save", genotype]
    assert select(["--ckpt", supernet, *flags]) == 0
    assert retrain(["--arch", genotype, "--epochs", "1", "--channels", "4", "--save", str(folder / "network.pt")]) == 0
    return folder


def test_the_file_of_a_selection_has_the_architecture_and_its_true_errors(finished):
    content = json.loads((finished / "genotype.json").read_text())
    arch = Arch.from_text(content["arch"])
    assert "genotype" not in content
    wanted = (100 - value for value in accuracies(arch))
    assert content["test_error"] == pytest.approx(
        dict(zip(("cifar10", "cifar100", "imagenet16-120"), wanted, strict=True))
    )
    edges = {tuple(decision["edge"]): decision["operation"] for decision in content["decisions"]}
    assert tuple(edges[edge] for edge in SPACES["nb201"].edges) == arch.operations
    assert all(
        set(decision["scores"]) == set(SPACES["nb201"].operations["cell"][0]) for decision in content["decisions"]
    )


def test_the_result_line_has_the_true_errors_also_of_a_selection_that_is_finished(
    finished, tmp_path, benchmark, capsys
):
    folder = shutil.copytree(finished, tmp_path / "copy")
    content = json.loads((folder / "genotype.json").read_text())
    wanted = content.pop("test_error")
    (folder / "genotype.json").write_text(json.dumps(content))
    flags = ["--ckpt", str(folder / "supernet.pt"), "--save", str(folder / "genotype.json"), "--resume"]
    assert select([*flags, "--tune-epochs", "1", "--benchmark", str(benchmark)]) == 0
    assert f"true test error {wanted['cifar10']:.2f}% on cifar10" in capsys.readouterr().out.splitlines()[-1]
    assert json.loads((folder / "genotype.json").read_text())["test_error"] == wanted


def test_the_pictures_of_nas_bench_201_are_drawn(finished):
    for name in ("supernet", "genotype", "network"):
        with Image.open(finished / f"{name}.png") as image:
            assert len(image.convert("RGB").getcolors(10**6)) > 50, "not blank"


def test_snapshots_are_kept_and_can_be_selected_from(finished, tmp_path, capsys):
    assert set(runs.snapshots(finished / "supernet.pt")) == {1, 2}
    first, last = (torch.load(finished / name) for name in ("supernet.epoch001.pt", "supernet.epoch002.pt"))
    assert (len(first["records"]), first["finished"]) == (1, False)
    assert last["finished"]
    flags = ["--criterion", "magnitude", "--tune-epochs", "0", "--save", str(tmp_path / "genotype.json")]
    assert select(["--ckpt", str(finished / "supernet.epoch001.pt"), *flags]) == 0
    assert "after 1 of 2 epochs" in capsys.readouterr().err
    found = Arch.from_text(json.loads((tmp_path / "genotype.json").read_text())["arch"])
    weights = first["records"][0]["weights"]["cell"]
    names = SPACES["nb201"].operations["cell"][0]
    assert found.operations == tuple(names[row.index(max(row))] for row in weights), "`none` may win"


def test_snapshots_of_an_earlier_result_are_moved_aside_with_it(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "copy")
    before = (folder / "supernet.epoch001.pt").read_bytes()
    assert train_search(["--space", "nb201", *SMALL, "--save", str(folder / "supernet.pt")]) == 0
    assert runs.snapshots(folder / "supernet.pt") == {}
    assert runs.snapshots(folder / "supernet.1.pt")[1].read_bytes() == before


def test_a_selection_leaves_the_snapshots_of_a_supernet_of_its_name_alone(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "copy")
    (folder / "supernet.pt").unlink()
    flags = ["--criterion", "magnitude", "--tune-epochs", "0", "--save", str(folder / "supernet.json")]
    assert select(["--ckpt", str(folder / "supernet.epoch001.pt"), *flags]) == 0
    assert set(runs.snapshots(folder / "supernet.pt")) == {1, 2}


def test_retrain_takes_an_architecture_as_text(tmp_path, capsys):
    text = str(Arch(("nor_conv_3x3",) * 6))
    assert retrain(["--arch", text, "--dataset", "cifar10", "--summary"]) == 0
    assert "15 cells, 16 channels, 10 classes: 1,531,546 parameters" in capsys.readouterr().out
    assert retrain(["--arch", text, "--epochs", "1", "--channels", "4", "--save", str(tmp_path / "n.pt")]) == 0


def test_the_papers_settings_on_nas_bench_201():
    assert runs.preset("search", None, "cifar10", "nb201") == ("paper", {"layers": 5, "epochs": 100})
    values = runs.preset("retrain", None, "imagenet16-120", "nb201")[1]
    wanted = {"layers": 5, "channels": 16, "epochs": 200, "batch_size": 256, "nesterov": True, "weight_decay": 5e-4}
    assert wanted.items() <= values.items()


# --------------------------------------------------------------------------------------------------- the benchmark


def test_every_architecture_is_looked_up(benchmark):
    errors = load_benchmark(benchmark)
    assert len(errors) == 15_625
    for arch in ALL[::97]:
        assert tuple(errors[str(arch)].values()) == pytest.approx([100 - value for value in accuracies(arch)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: ["arch,cifar10,cifar100", *lines[1:]], "line 1: the header arch,cifar10"),
        (lambda lines: [lines[0], lines[1] + ",3", *lines[2:]], "line 2: four fields"),
        (lambda lines: [*lines[:3], lines[3].replace("60", "sixty"), *lines[4:]], "line 4: could not convert"),
        (lambda lines: [*lines[:3], lines[3].replace(",60", ",600"), *lines[4:]], "line 4: accuracies are percentages"),
        (lambda lines: [*lines[:3], lines[3].replace(",60", ",nan"), *lines[4:]], "line 4: accuracies are percentages"),
        (lambda lines: [*lines[:3], lines[3].replace("none", "zero", 1), *lines[4:]], "unknown operation 'zero'"),
        (lambda lines: [*lines[:3], lines[3][:20], *lines[4:]], "line 4: not of the form"),
        (lambda lines: [*lines, lines[5]], "line 15627: |none~0|+|none~0|none~1|+|none~0|none~1|avg_pool_3x3~2|"),
        (lambda lines: [*lines[:700], *lines[701:]], "is missing"),
        (lambda lines: lines[:1], "is missing"),
        (lambda lines: [], "line 1: the header"),
        (lambda lines: ["x" * 200_000], "line 1"),
        (lambda lines: ["\0", *lines], "line 1"),
    ],
)
def test_a_benchmark_that_is_not_sound_is_refused_before_the_work_starts(
    finished, tmp_path, benchmark, change, words, capsys
):
    path = tmp_path / "bad.csv"
    path.write_text("\n".join(change(benchmark.read_text().splitlines())))
    flags = ["--benchmark", str(path), "--save", str(tmp_path / "genotype.json")]
    assert select(["--ckpt", str(finished / "supernet.pt"), *flags]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert len(err.splitlines()) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["bad.csv"]


def test_a_benchmark_that_is_not_there_or_not_text_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        load_benchmark(tmp_path / "nothing.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00" * 100)
    with pytest.raises(UserError, match="line 1"):
        load_benchmark(tmp_path / "binary.csv")
    with pytest.raises(UserError, match=r"--benchmark|cannot"):
        load_benchmark(tmp_path)


def test_a_benchmark_belongs_to_nas_bench_201(tmp_path, benchmark, capsys):
    supernet = str(tmp_path / "s.pt")
    assert train_search(["--space", "s2", "--epochs", "1", "--channels", "4", "--limit", "64", "--save", supernet]) == 0
    assert select(["--ckpt", supernet, "--benchmark", str(benchmark)]) == 2
    assert "belongs to the space nb201" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------- Table 4 and Fig. 4


@pytest.fixture
def in_process(monkeypatch):
    """The commands of a study run in this process; returns the list of them."""
    ran = []

    def run(command, children, stopping, **_):
        ran.append(command[1:])
        script = {"train_search.py": train_search, "select.py": select}[command[0]]
        return subprocess.CompletedProcess(command, script(command[1:]), "done\n", "failed\n")

    monkeypatch.setattr(REPRODUCE, "run_script", run)
    return ran


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
