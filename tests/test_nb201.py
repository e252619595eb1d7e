"""NAS-Bench-201 end to end: the commands on its space, and true errors from a benchmark."""

from __future__ import annotations

import itertools
import json
import shutil

import pytest
import torch
from PIL import Image

import runs
from genotypes import SPACES, Arch
from runs import UserError, load_benchmark
from tests.conftest import load_script

train_search, select, retrain = (load_script(name).main for name in ("train_search", "select", "retrain"))
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
