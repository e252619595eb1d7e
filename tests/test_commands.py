"""The three commands end to end: what they write and print, and that they do the same twice."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import ptnas
import runs
from data import load_data, load_supernet
from genotypes import PUBLISHED, SPACES, Arch, Genotype
from ptnas import Supernet, evaluate
from retrain import load_network
from tests.conftest import SMALL, blank, load_script, write_image_folder
from tests.faults import read_results

train_search, select, retrain = (load_script(name).main for name in ("train_search", "select", "retrain"))
SEARCH = ["--space", "s2", "--epochs", "2", *SMALL]
QUICK = ["--space", "nb201", "--layers", "1", "--epochs", "1", *SMALL]


def read_log(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_command_leaves_its_files(finished):
    supernet = {"supernet.pt", "supernet.jsonl", "supernet.png", "supernet.epoch001.pt", "supernet.epoch002.pt"}
    genotype = {"genotype.json", "genotype.pt", "genotype.jsonl", "genotype.png"}
    network = {"network.pt", "network.jsonl", "network.png"}
    assert {path.name for path in finished.iterdir()} == supernet | genotype | network
    assert not any(blank(path) for path in finished.glob("*.png"))
    for name, kind in (("supernet", "supernet"), ("genotype", "selection"), ("network", "network")):
        content = torch.load(finished / f"{name}.pt", weights_only=True)
        assert (content["schema"], content["kind"], content["finished"]) == (5, kind, True)


def test_logs_have_a_record_for_every_step(finished):
    search, selection, training = (read_log(finished / f"{name}.jsonl") for name in ("supernet", "genotype", "network"))
    assert [record["epoch"] for record in search] == [record["epoch"] for record in training] == [1, 2]
    assert [record["round"] for record in selection] == list(range(1, 18))
    assert {"valid_accuracy", "skip_gap", "weights", "seconds"} <= search[0].keys()
    assert {"test_error", "train_loss"} <= training[0].keys()


def test_the_genotype_file_tells_how_it_came_about(finished):
    content = json.loads((finished / "genotype.json").read_text())
    wanted = {"schema": 1, "space": "s2", "dataset": "digits", "preset": "laptop", "seed": 0, "image_size": 8}
    wanted |= {"criterion": "perturbation", "supernet": runs.fingerprint(finished / "supernet.pt")}
    assert wanted.items() <= content.items()
    genotype = Genotype.from_json(content["genotype"])
    assert Genotype.from_text(content["text"]) == genotype
    edges = [decision for decision in content["decisions"] if "edge" in decision]
    assert (len(edges), len(content["decisions"])) == (28, 28 + 6), "six nodes have more than two inputs"
    assert all(decision["scores"].keys() == {"skip_connect", "sep_conv_3x3"} for decision in edges), "pruned ones too"
    chosen = {(decision["cell"], *decision["edge"]): decision["operation"] for decision in edges}
    for entry, (operation, source) in enumerate(genotype.normal):
        assert chosen["normal", source, 2 + entry // 2] == operation


def test_an_earlier_result_is_moved_aside_as_a_whole_with_its_snapshots(folder, finished, capsys):
    for number in (1, 2):
        assert train_search(QUICK) == 0
        assert f"an earlier result was moved to supernet.{number}.pt" in capsys.readouterr().out
    for path in finished.glob("supernet.*"):
        assert (folder / path.name.replace("supernet", "supernet.1")).read_bytes() == path.read_bytes()
    assert sorted(path.suffix for path in folder.glob("supernet.2.*")) == [".jsonl", ".png", ".pt"]


def test_an_architecture_comes_from_a_network_too_or_from_a_text_in_a_file(folder, capsys):
    wanted, flags = torch.load("network.pt")["settings"], ["--layers", "3", "--epochs", "1", *SMALL]
    (folder / "search.log").write_text(f"12:00 genotype = {wanted['genotype']}\n12:01 done (at last)\n", "utf-16")
    for source, image_size in (("network.pt", 8), ("search.log", None)):
        assert retrain(["--arch", source, *flags, "--save", "again.pt"]) == 0
        assert torch.load("again.pt")["settings"] == wanted | {"epochs": 1, "image_size": image_size}
    origin = json.loads((folder / "genotype.json").read_text())
    assert runs.load_architecture("network.pt")[1].items() <= origin.items(), "where it was found"


# ---- Output -------------------------------------------------------------------------------------------------------


def test_sgas_on_a_space_without_none_notes_that_certainty_alone_orders_the_edges(tmp_path, capsys):
    flags = ["--sgas", "magnitude", "--epochs", "1", *SMALL, "--save", str(tmp_path / "supernet.pt")]
    for space, noted in (("s2", True), ("s3", False)):
        assert train_search(["--space", space, *flags]) == 0
        out, err = capsys.readouterr()
        assert ("note: s2 has no `none`" in err) == noted
        assert out.endswith("% before the last decisions\n")


def test_the_last_line_on_stdout_is_the_result_and_a_finished_run_says_so(folder, capsys):
    for command, arguments, words in (
        (train_search, SEARCH, "2 epochs, validation accuracy"),
        (select, ["--ckpt", "supernet.pt", "--tune-epochs", "1"], "Genotype(normal="),
        (retrain, ["--arch", "genotype.json", "--layers", "3", "--epochs", "2", *SMALL], "test error"),
    ):
        assert command([*arguments, "--resume"]) == 0
        first, last = capsys.readouterr().out.splitlines()
        assert first.endswith("is finished: nothing is left to do")
        assert words in last


def test_three_opening_lines_of_100_columns_name_what_differs_from_the_preset(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ["--order", "2", "--lr", "0.3", "--seed", "5", "--device", "cpu"]
    for preset, save in (("laptop", "supernet.pt"), ("paper", "a" * 90 + ".pt")):
        assert train_search([*QUICK, *flags, "--preset", preset, "--save", save]) == 0
        (*opening, result), err = (text.splitlines() for text in capsys.readouterr())
        assert len(opening) == 3
        assert max(map(len, opening)) <= 100
        assert all(word in opening[0] for word in ("nb201", "digits", preset, "seed 5"))
        changed = opening[1].partition(": ")[2].split(", ")
        assert set(changed) == {"layers 1", "epochs 1", "channels 2", "limit 64", "order 2", "lr 0.3"}
        assert opening[2].startswith("writes ")
        assert result.startswith(f"supernet {save}: ")
        assert ("the paper's preset is meant for a GPU; --preset laptop" in err[0]) == (preset == "paper")


@pytest.mark.parametrize("stream", ["closed", "full"])
def test_nothing_fails_for_stderr(tmp_path, monkeypatch, stream):
    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full if stream == "full" else None)
        assert train_search([*QUICK, "--save", str(tmp_path / "supernet.pt")]) == 0
        full.write = full.close = lambda *_: None


COMMON = "dataset data preset seed device threads workers amp deterministic resume save "
TRAINING = "epochs batch-size channels layers image-size limit lr "


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (train_search, COMMON + TRAINING + "space alpha order noise sgas alpha-lr keep-every no-flip low-memory"),
        (select, COMMON + "ckpt criterion metric tune-epochs alpha benchmark low-memory"),
        (retrain, COMMON + TRAINING + "arch no-flip summary"),
    ],
)
def test_help_lists_every_option(command, options, capsys):
    with pytest.raises(SystemExit) as stop:
        command(["--help"])
    assert stop.value.code == 0
    listed = re.findall(r"^  (?:-h, )?--([a-z-]+)", capsys.readouterr().out, re.MULTILINE)
    assert sorted(listed) == sorted(["help", *options.split()])


@pytest.mark.parametrize(
    ("arch", "dataset", "size"),
    [
        ("DARTS_V2", "cifar10", "3,349,342 parameters"),
        (str(PUBLISHED["DARTS_V2"]), "imagenet", "4,718,752 parameters"),
        (str(Arch(("nor_conv_3x3",) * 6)), "cifar10", "15 cells, 16 channels, 10 classes: 1,531,546 parameters"),
    ],
)
def test_summary_gives_the_published_sizes_and_needs_no_data(arch, dataset, size, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert retrain(["--arch", arch, "--dataset", dataset, "--summary"]) == 0
    assert size in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


# ---- Options ------------------------------------------------------------------------------------------------------


def test_low_memory_changes_no_bit_and_bfloat16_some(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, flags in {"plain": [], "same": ["--low-memory"], "other": ["--amp"]}.items():
        assert train_search([*QUICK, *flags, "--save", f"{name}.pt"]) == 0
    results = read_results(tmp_path)
    plain, same, other = (results[f"{name}.pt"] for name in ("plain", "same", "other"))
    assert same == plain
    assert other["settings"] == plain["settings"] | {"amp": True}
    assert other["records"] != plain["records"]


def test_fixed_alpha_second_order_and_deterministic_algorithms(tmp_path):
    options = {"fixed": ["--alpha", "fixed"], "second": ["--order", "2"], "exact": ["--deterministic"]}
    try:
        for name, flags in options.items():
            assert train_search([*QUICK, *flags, "--save", str(tmp_path / f"{name}.pt")]) == 0
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    fixed, second, exact = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in options)
    alphas = [each["state"]["supernet"]["alpha.cell"] for each in (fixed, second, exact)]
    assert not alphas[0].any()
    assert not torch.equal(alphas[1], alphas[2])
    assert exact["computing"]["deterministic"]


def test_an_untrained_supernet_is_selected_from_with_a_frozen_alpha(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert train_search([*QUICK, "--epochs", "0", "--resume"]) == 0
    trained = load_supernet("supernet.pt")
    torch.manual_seed(runs.mix(0))
    for name, value in Supernet(SPACES["nb201"], 1, 2, 10, 1).state_dict().items():
        assert name == "_extra_state" or torch.equal(value, trained.bilevel.supernet.state_dict()[name]), name
    assert (trained.records, Path("supernet.png").exists()) == ([], False)
    for flags in ([], ["--resume"]):
        assert (
            select(["--ckpt", "supernet.pt", "--alpha", "fixed", "--tune-epochs", "1", "--threads", "1", *flags]) == 0
        )
    found, state = json.loads(Path("genotype.json").read_text()), torch.load("genotype.pt", weights_only=True)
    (before,) = evaluate(trained.bilevel.supernet, trained.valid, 512)
    assert (found["alpha"], found["search"]["alpha"], found["supernet_accuracy"]) == (
        "fixed",
        "bilevel",
        before.accuracy,
    )
    assert torch.equal(state["state"]["supernet"]["alpha.cell"], trained.bilevel.alpha[0])
    assert select(["--ckpt", "supernet.pt", "--tune-epochs", "1", "--resume"]) == 2
    assert "begun with alpha fixed" in capsys.readouterr().err
    assert train_search([*QUICK, "--alpha", "fixed"]) == 0
    assert select(["--ckpt", "supernet.pt", "--alpha", "bilevel"]) == 2
    assert "kept α at 0" in capsys.readouterr().err


def test_the_three_commands_on_a_folder_of_images_with_odd_maps_never_mirrored(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images, small = write_image_folder(tmp_path / "images", size=11, count=8), ["--epochs", "1", *SMALL]
    search = ["--space", "s1", "--dataset", "images", "--preset", "laptop", "--layers", "3", "--image-size", "11"]
    assert train_search([*search, "--no-flip", *small]) == 0
    assert select(["--ckpt", "supernet.pt", "--criterion", "magnitude", "--tune-epochs", "0", "--threads", "1"]) == 0
    found = json.loads((tmp_path / "genotype.json").read_text())
    assert (found["dataset"], found["image_size"], found["preset"]) == (str(images), 11, "laptop")
    assert retrain(["--arch", "genotype.json", *small]) == 0
    network = torch.load(tmp_path / "network.pt")
    assert (network["classes"], network["settings"]["no_flip"]) == (["apple", "pear"], True)
    assert retrain(["--arch", "network.pt", "--summary"]) == 0
    assert "2 classes" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("architecture", ["DARTS_V2", str(Arch(("nor_conv_1x1",) * 6))])
def test_a_trained_network_is_loaded_and_is_as_accurate_as_it_was(tmp_path, monkeypatch, architecture):
    monkeypatch.chdir(tmp_path)
    images = write_image_folder(Path("images"), size=14, count=9)
    Image.new("RGB", (20, 30), (9, 90, 200)).save(images / "test" / "pear" / "odd.jpg")
    for part, value in (("train", 900), ("test", 300)):  # a third of the largest
        Image.new("I;16", (14, 14), value).save(images / part / "pear" / "deep.png")
    flags = ["--dataset", "images", "--preset", "laptop", "--image-size", "12", "--epochs", "2", "--layers", "3"]
    assert retrain(["--arch", architecture, *flags, *SMALL]) == 0
    network, classes, read = load_network("network.pt")
    assert (network.training, classes) == (False, ["apple", "pear"])
    files = sorted(images.glob("test/*/*"))
    right = [network(read(file)).argmax() == classes.index(file.parent.name) for file in files]
    assert 100 * sum(right) / len(files) == pytest.approx(read_log(Path("network.jsonl"))[-1]["test_accuracy"])
    data = load_data({"dataset": "images", "seed": 0, "image_size": 12}, torch.device("cpu"))
    torch.testing.assert_close(torch.cat([read(file) for file in files]), next(data.test.clean(99))[1][0])
    with pytest.raises(runs.UserError, match=r"cannot read the image network.jsonl"):
        read("network.jsonl")
    with pytest.raises(runs.UserError, match="is damaged or no checkpoint"):
        load_network("network.jsonl")


def test_presets_give_the_papers_settings_and_fit_the_settings():
    assert runs.get_preset("search", None, "cifar10", "nb201") == ("paper", {"layers": 5, "epochs": 100})
    assert runs.get_preset("retrain", None, "cifar100", "s3") == ("paper", {"layers": 8, "channels": 16})
    assert runs.get_preset("retrain", None, "svhn", "darts") == ("paper", {})
    depth = {name: runs.get_preset("search", "laptop", name, "s2")[1].get("layers") for name in ("digits", "images")}
    assert depth == {"digits": 3, "images": None}, "on images S1-S4 have the paper's eight cells"
    wanted = {"layers": 5, "channels": 16, "epochs": 200, "batch_size": 256, "nesterov": True, "weight_decay": 5e-4}
    assert wanted.items() <= runs.get_preset("retrain", None, "imagenet16-120", "nb201")[1].items()
    for command, settings in (("search", ptnas.SearchSettings), ("retrain", ptnas.RetrainSettings)):
        for values in runs.PRESETS[command].values():
            assert values.keys() <= vars(settings.of(values)).keys() | {"limit", "image_size"}


# ---- NAS-Bench-201 ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nb201(tmp_path_factory, benchmark):
    """Runs search, with snapshots, and selection on NAS-Bench-201."""
    folder = tmp_path_factory.mktemp("nb201")
    supernet, genotype = str(folder / "supernet.pt"), str(folder / "genotype.json")
    assert train_search([*QUICK, "--epochs", "2", "--keep-every", "1", "--save", supernet]) == 0
    flags = ["--tune-epochs", "1", "--threads", "1", "--benchmark", str(benchmark), "--save", genotype]
    assert select(["--ckpt", supernet, *flags]) == 0
    return folder


def test_a_selection_on_nas_bench_201_has_the_architecture_and_its_true_errors(nb201, benchmark, tmp_path, capsys):
    folder = shutil.copytree(nb201, tmp_path / "copy")
    content = json.loads((folder / "genotype.json").read_text())
    arch = Arch.from_text(content["arch"])
    edges = {tuple(decision["edge"]): decision["operation"] for decision in content["decisions"]}
    assert tuple(edges[edge] for edge in SPACES["nb201"].edges) == arch.operations
    errors = content["test_error"]
    row = next(line for line in benchmark.read_text().splitlines() if line.startswith(f"{arch},"))
    assert list(errors.values()) == [100 - float(accuracy) for accuracy in row.split(",")[1:]]
    flags = ["--ckpt", str(folder / "supernet.pt"), "--save", str(folder / "genotype.json"), "--tune-epochs", "1"]
    assert select([*flags, "--benchmark", str(benchmark), "--resume"]) == 0
    assert f"true test error {errors['cifar10']:.2f}% on cifar10" in capsys.readouterr().out.splitlines()[-1]
    assert not any(blank(path) for path in folder.glob("*.png"))


def test_the_table_has_the_true_errors_of_nas_bench_201():
    table = runs.load_benchmark()
    errors = [each["cifar10"] for each in table.values()]
    assert (round(min(errors), 2), round(sum(errors) / len(errors), 2)) == (5.63, 12.94)
    assert table[str(Arch(("skip_connect",) * 6))]["cifar10"] == pytest.approx(45.70, abs=0.01)
    assert table[str(Arch(("none",) * 6))] == pytest.approx(
        {"cifar10": 90, "cifar100": 99, "imagenet16-120": 99.17}, abs=0.01
    )


@pytest.mark.parametrize("criterion", list(ptnas.CRITERIA))
def test_every_criterion_selects_an_architecture(nb201, tmp_path, criterion, capsys):
    flags = ["--criterion", criterion, "--tune-epochs", "0", "--metric", "loss", "--threads", "1"]
    assert select(["--ckpt", str(nb201 / "supernet.pt"), *flags, "--save", str(tmp_path / "genotype.json")]) == 0
    content = json.loads((tmp_path / "genotype.json").read_text())
    assert content["criterion"] == criterion
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(f": {content['arch']}")
    assert f"true test error {content['test_error']['cifar10']:.2f}% on cifar10" in last, "without any option"


def test_snapshots_are_kept_and_can_be_selected_from_and_stay(nb201, tmp_path, capsys):
    folder = shutil.copytree(nb201, tmp_path / "copy")
    (folder / "supernet.pt").unlink()
    first, last = (torch.load(folder / name) for name in ("supernet.epoch001.pt", "supernet.epoch002.pt"))
    assert (len(first["records"]), first["finished"], last["finished"]) == (1, False, False)
    flags = ["--criterion", "magnitude", "--tune-epochs", "0", "--save", str(folder / "supernet.json")]
    assert select(["--ckpt", str(folder / "supernet.epoch001.pt"), *flags]) == 0
    assert "after 1 of 2 epochs" in capsys.readouterr().err
    found, names = json.loads((folder / "supernet.json").read_text())["arch"], SPACES["nb201"].operations["cell"][0]
    largest = tuple(names[row.index(max(row))] for row in first["records"][0]["weights"]["cell"])
    assert Arch.from_text(found).operations == largest, "`none` may win"
    assert len(list(folder.glob("supernet.epoch00[12].pt"))) == 2
