"""The three commands end to end on the embedded digits, and what they say to bad input."""

from __future__ import annotations

import json
import shutil
import signal

import pytest
import torch
from PIL import Image

import ptnas
import runs
from genotypes import PUBLISHED, Genotype
from tests.conftest import load_script, write_image_folder

SEARCH = ["--space", "s2", "--epochs", "2", "--channels", "4", "--limit", "200", "--lr", "0.1", "--threads", "1"]
train_search, select, retrain = (load_script(name).main for name in ("train_search", "select", "retrain"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which all three commands have run."""
    folder = tmp_path_factory.mktemp("finished")
    assert train_search([*SEARCH, "--save", str(folder / "supernet.pt")]) == 0
    common = ["--threads", "1", "--save"]
    assert (
        select(["--ckpt", str(folder / "supernet.pt"), "--tune-epochs", "1", *common, str(folder / "genotype.json")])
        == 0
    )
    arguments = ["--arch", str(folder / "genotype.json"), "--epochs", "2", "--channels", "4", *common]
    assert retrain([*arguments, str(folder / "network.pt")]) == 0
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(finished, tmp_path / "copy")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# -------------------------------------------------------------------------------------------------- end to end


def test_every_command_leaves_its_files(finished):
    names = {
        "supernet": ["pt", "pt.before", "jsonl", "png"],
        "genotype": ["json", "pt", "pt.before", "jsonl", "png"],
        "network": ["pt", "pt.before", "jsonl", "png"],
    }
    wanted = {f"{name}.{suffix}" for name, suffixes in names.items() for suffix in suffixes}
    assert {path.name for path in finished.iterdir()} == wanted


def test_logs_have_a_record_for_every_step(finished):
    search, selection, training = (lines(finished / f"{name}.jsonl") for name in ("supernet", "genotype", "network"))
    assert [record["epoch"] for record in search] == [1, 2]
    assert [record["round"] for record in selection] == list(range(1, 18))
    assert [record["epoch"] for record in training] == [1, 2]
    assert {"valid_accuracy", "skip_gap", "weights", "seconds"} <= set(search[0])
    assert {"test_error", "train_loss"} <= set(training[0])


def test_the_genotype_file_tells_how_it_came_about(finished):
    content = json.loads((finished / "genotype.json").read_text())
    assert content["schema"] == 1
    assert (content["space"], content["dataset"], content["preset"], content["seed"]) == ("s2", "digits", "laptop", 0)
    assert content["criterion"] == "perturbation"
    genotype = Genotype.from_json(content["genotype"])
    assert Genotype.from_text(content["text"]) == genotype
    edges = [decision for decision in content["decisions"] if "edge" in decision]
    nodes = [decision for decision in content["decisions"] if "node" in decision]
    assert len(edges) == 28
    assert len(nodes) == 6
    assert all(set(decision["scores"]) == {"skip_connect", "sep_conv_3x3"} for decision in edges), "pruned ones too"
    chosen = {(decision["cell"], *decision["edge"]): decision["operation"] for decision in edges}
    for node in range(2, 6):
        for operation, source in genotype.normal[2 * node - 4 : 2 * node - 2]:
            assert chosen["normal", source, node] == operation


def test_checkpoints_load_without_executing_anything_and_know_their_schema(finished):
    for name, kind in (("supernet", "supernet"), ("genotype", "selection"), ("network", "network")):
        content = torch.load(finished / f"{name}.pt", weights_only=True)
        assert (content["schema"], content["kind"], content["finished"]) == (2, kind, True)
    assert content["classes"] == list("0123456789")


def test_pictures_are_drawn(finished):
    for path in finished.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 300
            assert len(image.convert("RGB").getcolors(10**6)) > 50, "not blank"


def test_the_last_line_on_stdout_is_the_result(folder, capsys):
    for command, arguments, word in (
        (train_search, [*SEARCH, "--save", str(folder / "supernet.pt")], "validation accuracy"),
        (
            select,
            ["--ckpt", str(folder / "supernet.pt"), "--tune-epochs", "1", "--save", str(folder / "genotype.json")],
            "Genotype(normal=",
        ),
        (
            retrain,
            [
                "--arch",
                str(folder / "genotype.json"),
                "--epochs",
                "2",
                "--channels",
                "4",
                "--save",
                str(folder / "network.pt"),
            ],
            "test error",
        ),
    ):
        assert command([*arguments, "--resume"]) == 0
        out = capsys.readouterr().out.strip().splitlines()
        assert "is finished" in out[0]
        assert word in out[-1]


def test_the_same_command_gives_the_same_bits(finished, tmp_path):
    assert train_search([*SEARCH, "--save", str(tmp_path / "supernet.pt")]) == 0
    states = [torch.load(path / "supernet.pt")["state"]["bilevel"]["supernet"] for path in (finished, tmp_path)]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]) if torch.is_tensor(value) else value == states[1][name]


@pytest.mark.parametrize("criterion", ["magnitude", "random", "discretization"])
def test_every_criterion_selects_an_architecture(folder, criterion, capsys):
    save = folder / "other.json"
    arguments = [
        "--ckpt",
        str(folder / "supernet.pt"),
        "--criterion",
        criterion,
        "--tune-epochs",
        "0",
        "--metric",
        "loss",
    ]
    assert select([*arguments, "--save", str(save)]) == 0
    assert json.loads(save.read_text())["criterion"] == criterion
    assert "Genotype(" in capsys.readouterr().out.strip().splitlines()[-1]


def test_low_memory_changes_no_bit_and_bfloat16_some(finished, tmp_path, capsys):
    plain, same, other = (
        torch.load(path / "supernet.pt", weights_only=True) for path in (finished, *train_twice(tmp_path))
    )
    assert [each["computing"]["low_memory"] for each in (plain, same)] == [False, True]
    assert [each["computing"]["amp"] for each in (plain, other)] == [False, True]
    weight = "skeleton.classifier.weight"
    before, equal, rounded = (each["state"]["bilevel"]["supernet"][weight] for each in (plain, same, other))
    assert torch.equal(before, equal)
    assert not torch.equal(before, rounded)
    assert "amp False, low_memory True, compile False" in capsys.readouterr().out


def train_twice(folder):
    """Where the search was run with --low-memory and with --amp."""
    for flag in ("--low-memory", "--amp"):
        (folder / flag).mkdir()
        assert train_search([*SEARCH, flag, "--save", str(folder / flag / "supernet.pt")]) == 0
        yield folder / flag


def test_tuning_that_converges_takes_at_most_the_fixed_number_of_epochs(folder):
    save = folder / "converged.json"
    arguments = ["--ckpt", str(folder / "supernet.pt"), "--tune", "converge", "--tune-epochs", "2", "--threads", "1"]
    assert select([*arguments, "--save", str(save)]) == 0
    assert json.loads(save.read_text())["tune"] == "converge"
    epochs = {record["tuned_epochs"] for record in lines(save.with_suffix(".jsonl"))}
    assert epochs <= {0, 1, 2}
    assert epochs != {2}, "the supernet was never as good again"


def test_search_with_fixed_alpha_and_of_second_order(tmp_path):
    for flags in (["--alpha", "fixed"], ["--order", "2", "--alpha-lr", "0.01"]):
        save = tmp_path / f"{flags[1]}.pt"
        assert (
            train_search(
                [*SEARCH[:2], "--epochs", "1", "--channels", "4", "--limit", "64", *flags, "--save", str(save)]
            )
            == 0
        )
        alpha = torch.load(save)["state"]["bilevel"]["supernet"]["alpha.normal"]
        assert alpha.any() == (flags[1] != "fixed")


def test_the_three_commands_on_a_folder_of_images_with_odd_maps(tmp_path):
    images = write_image_folder(tmp_path / "images", size=11, count=8)
    names = {name: str(tmp_path / name) for name in ("supernet.pt", "genotype.json", "network.pt")}
    small = ["--channels", "4", "--epochs", "1", "--threads", "1"]
    assert (
        train_search(
            ["--space", "darts", "--dataset", str(images), "--preset", "laptop", *small, "--save", names["supernet.pt"]]
        )
        == 0
    )
    assert (
        select(
            ["--ckpt", names["supernet.pt"], "--tune-epochs", "0", "--threads", "1", "--save", names["genotype.json"]]
        )
        == 0
    )
    found = json.loads((tmp_path / "genotype.json").read_text())
    assert (found["dataset"], found["image_size"], found["preset"]) == (str(images), 11, "laptop")
    assert retrain(["--arch", names["genotype.json"], *small, "--save", names["network.pt"]]) == 0
    assert torch.load(tmp_path / "network.pt")["classes"] == ["apple", "pear"]


# ------------------------------------------------------------------------------------------- resuming, moving aside


def test_a_run_that_was_stopped_goes_on_to_the_same_result(tmp_path, monkeypatch, finished):
    save = tmp_path / "supernet.pt"
    steps = []
    real = runs.Run._save

    def stop_after_one(self, task, *arguments):
        real(self, task, *arguments)
        steps.append(task.done)
        if steps == [0, 1]:
            raise runs.Stopped(signal.SIGINT)

    monkeypatch.setattr(runs.Run, "_save", stop_after_one)
    assert train_search([*SEARCH, "--save", str(save), "--resume"]) == 130, "nothing to resume: begins anew"
    assert train_search([*SEARCH, "--save", str(save), "--resume"]) == 0
    assert steps == [0, 1, 2]
    records = [{**record, "seconds": 0} for record in lines(tmp_path / "supernet.jsonl")]
    assert records == [{**record, "seconds": 0} for record in lines(finished / "supernet.jsonl")]


def test_a_finished_selection_writes_a_genotype_that_was_lost_again(folder):
    before = (folder / "genotype.json").read_text()
    (folder / "genotype.json").unlink()
    flags = ["--ckpt", str(folder / "supernet.pt"), "--tune-epochs", "1", "--save", str(folder / "genotype.json")]
    assert select([*flags, "--resume"]) == 0
    assert (folder / "genotype.json").read_text() == before
    assert len(lines(folder / "genotype.jsonl")) == 17


def test_changed_settings_are_named(folder, capsys):
    assert train_search([*SEARCH, "--seed", "3", "--save", str(folder / "supernet.pt"), "--resume"]) == 2
    error = capsys.readouterr().err
    assert "seed 0" in error
    assert "now it is 3" in error


def test_an_earlier_result_is_moved_aside_once_as_a_whole(folder, capsys):
    before = (folder / "supernet.pt").read_bytes()
    for number in (1, 2):
        assert train_search([*SEARCH[:2], "--epochs", "1", *SEARCH[4:], "--save", str(folder / "supernet.pt")]) == 0
        assert f"supernet.{number}.pt" in capsys.readouterr().out
        assert {f"supernet.{number}.{end}" for end in ("pt", "jsonl", "png")} <= {
            path.name for path in folder.iterdir()
        }
    assert (folder / "supernet.1.pt").read_bytes() == before
    assert not (folder / "supernet.3.pt").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(tmp_path, capsys, monkeypatch):
    real = ptnas.Search.step

    def break_down(self):
        return real(self) | ({"train_loss": float("nan")} if self.done == 2 else {})

    monkeypatch.setattr(ptnas.Search, "step", break_down)
    assert train_search([*SEARCH, "--save", str(tmp_path / "supernet.pt")]) == 2
    error = capsys.readouterr().err
    assert "train_loss became nan in epoch 2, learning rate 0.0505; " in error
    assert "supernet.pt is as it was before; try a smaller --lr" in error
    content = torch.load(tmp_path / "supernet.pt")
    assert (content["state"]["done"], len(content["records"]), content["finished"]) == (1, 1, False)
    assert len(lines(tmp_path / "supernet.jsonl")) == 1


# ---------------------------------------------------------------------------------------------------- the summary


def test_summary_gives_the_published_size_and_needs_no_data(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert retrain(["--arch", "DARTS_V2", "--dataset", "cifar10", "--preset", "paper", "--summary"]) == 0
    assert "3,349,342 parameters" in capsys.readouterr().out
    assert retrain(["--arch", str(PUBLISHED["DARTS_V2"]), "--dataset", "imagenet", "--summary"]) == 0
    assert "4,718,752 parameters" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_the_papers_settings_for_s1_to_s4_on_cifar100_and_svhn():
    assert runs.preset("retrain", None, "cifar100", "s3") == ("paper", {"layers": 8, "channels": 16})
    assert runs.preset("retrain", None, "svhn", "darts") == ("paper", {})
    assert runs.preset("retrain", None, "cifar10", "s3") == ("paper", {})
    assert runs.load_architecture("PT_FIXED_S2_C100_1")[1] == {"space": "s2"}


def test_a_paper_run_on_a_cpu_says_first_how_long_it_takes(tmp_path, capsys):
    flags = [
        "--preset",
        "paper",
        "--epochs",
        "1",
        "--layers",
        "3",
        "--channels",
        "4",
        "--limit",
        "64",
        "--device",
        "cpu",
    ]
    assert train_search(["--space", "s2", *flags, "--save", str(tmp_path / "s.pt")]) == 0
    first = capsys.readouterr().err.splitlines()[0]
    assert "this will take about" in first
    assert "--preset laptop" in first


def test_help_lists_every_option(capsys):
    for command, words in ((train_search, "--alpha-lr"), (select, "--criterion"), (retrain, "--summary")):
        with pytest.raises(SystemExit) as stop:
            command(["--help"])
        assert stop.value.code == 0
        assert words in capsys.readouterr().out
