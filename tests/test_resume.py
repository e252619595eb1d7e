"""Runs that are stopped or killed, or whose files are damaged, go on to the same end, bit for bit.

The long form of the kills is `python tests/faults.py`.
"""

import contextlib
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import data
import ptnas
import runs
from tests import faults
from tests.conftest import SMALL, load_script, write_image_folder

train_search, select, retrain = (load_script(name).main for name in ("train_search", "select", "retrain"))
SEARCH = ["--space", "s2", "--epochs", "2", "--keep-every", "1", *SMALL]
LONG = ["--space", "nb201", "--layers", "1", "--epochs", "1000", *SMALL]


def count_lines(path):
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for_a_step(folder):
    end = time.monotonic() + 60
    while not count_lines(folder / "supernet.jsonl"):
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_run_that_is_stopped_inside_a_step_loses_this_step_and_no_other(tmp_path, finished, monkeypatch, capsys):
    """The record of a step does not depend on whether the run was stopped before it."""
    monkeypatch.chdir(tmp_path)
    train_epoch, taken = ptnas.Bilevel.train_epoch, []

    def stop_in_the_second(bilevel, *halves):
        taken.append(bilevel.epochs)
        measured = train_epoch(bilevel, *halves)
        if taken == [0, 1]:
            raise KeyboardInterrupt
        return measured

    monkeypatch.setattr(ptnas.Bilevel, "train_epoch", stop_in_the_second)
    line = [*SEARCH, "--resume"]
    assert train_search(line) == 130, "nothing to resume: it starts anew"
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == f"train_search.py: stopped by SIGINT; to go on: python train_search.py {' '.join(line)}"
    assert (len(torch.load("supernet.pt")["records"]), count_lines(Path("supernet.jsonl"))) == (1, 1)
    Path("supernet.jsonl").write_text("a line that was not finished")
    assert train_search(line) == 0
    assert taken == [0, 1, 1]
    wanted = faults.read_results(finished)
    assert all(value == wanted[name] for name, value in faults.read_results(tmp_path).items())


def test_a_genotype_that_was_lost_is_written_again(folder, finished):
    Path("genotype.json").unlink()
    assert select(["--ckpt", "supernet.pt", "--tune-epochs", "1", "--threads", "1", "--resume"]) == 0
    assert Path("genotype.json").read_text() == (finished / "genotype.json").read_text()
    assert count_lines(Path("genotype.jsonl")) == 17


def test_a_changed_setting_is_named(folder, capsys):
    for flag, before, now in (("seed", "0", "3"), ("space", "s2", "s4")):
        assert train_search([*SEARCH, f"--{flag}", now, "--resume"]) == 2
        assert f"supernet.pt was begun with {flag} {before}, and now it is {now}" in capsys.readouterr().err


def test_a_cosine_schedule_is_not_extended(folder, capsys):
    for command, line in ((train_search, SEARCH), (retrain, ["--arch", "genotype.json", "--layers", "3", *SMALL])):
        assert command([*line, "--epochs", "5", "--resume"]) == 2
        error = capsys.readouterr().err
        assert "a cosine schedule cannot be extended: start anew with --epochs 5, without --resume" in error
        assert len(error.splitlines()) == 1


def test_no_command_goes_on_with_other_images_but_all_do_if_the_folder_has_moved(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = write_image_folder(tmp_path / "images", count=7)
    quick = ["--preset", "laptop", "--epochs", "1", "--layers", "1", *SMALL]
    lines = {  # the last first, as each reads what the one before has written
        "network": [retrain, "--arch", "genotype.json", "--epochs", "1", *SMALL],
        "genotype": [select, "--ckpt", "supernet.pt", "--criterion", "random", "--tune-epochs", "0"],
        "supernet": [train_search, "--space", "nb201", *quick, "--dataset", "images"],
    }

    def try_all(name, folder, flags, goes_on):
        """With an image under another name all flags are refused; with the images of before the first go on."""
        torch.save({**torch.load(f"{name}.pt"), "finished": False}, f"{name}.pt")
        command, *line = lines[name]
        (folder / "train" / "pear" / "0.png").rename(folder / "train" / "pear" / "00.png")
        for more in flags:
            assert command([*line, *more]) == 2
            told = capsys.readouterr().err.splitlines()[-1]
            assert "other images" in told and "--dataset" in told
        (folder / "train" / "pear" / "00.png").rename(folder / "train" / "pear" / "0.png")
        assert command([*line, *goes_on]) == 0

    for command, *line in reversed(lines.values()):
        assert command(line) == 0
    for name in ("network", "genotype"):
        try_all(name, images, (["--resume"], []), ["--resume"])
    moved, again = images.rename(tmp_path / "moved"), ["--dataset", "moved", "--resume"]
    for name in lines:
        try_all(name, moved, [again] if name != "network" else [], again)
    assert train_search([*lines["supernet"][1:], "--resume"]) == 2, "it is finished, and has another name"
    assert torch.load("network.pt")["settings"]["preset"] == "laptop"


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert retrain(["--arch", "DARTS_V2", "--layers", "3", "--lr", "1e5", "--epochs", "4", *SMALL]) == 2
    error, number = capsys.readouterr().err.splitlines()[-1], count_lines(Path("network.jsonl"))
    assert f"in epoch {number + 1}; network.pt has the state before it; try a smaller --lr" in error
    content = torch.load("network.pt", weights_only=True)
    assert (len(content["records"]), content["finished"]) == (number, False)
    assert all(value.isfinite().all() for value in content["state"]["network"].values())


@pytest.mark.parametrize("name", ["train_search, second order with noise", "select by masking", "retrain"])
def test_a_run_that_is_killed_at_random_moments_comes_to_the_same_end(name, finished, tmp_path):
    told = faults.check(name, finished / "supernet.pt", tmp_path, 2)
    assert "every bit the same" in told


def test_two_processes_that_are_killed_come_to_the_same_end(tmp_path):
    plan = faults.PLANS["torchrun train_search"]
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    faults.finish(plan, tmp_path / "whole")
    processes = faults.start(plan, tmp_path / "killed")
    wait_for_a_step(tmp_path / "killed")
    assert faults.end(processes, signal.SIGKILL) == [-signal.SIGKILL] * 2
    faults.finish(plan, tmp_path / "killed", "--resume")
    assert faults.read_results(tmp_path / "killed") == faults.read_results(tmp_path / "whole")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_in_one_line_that_says_how_to_go_on(tmp_path, number, status):
    [process] = faults.start(["train_search", *LONG], tmp_path)
    wait_for_a_step(tmp_path)
    os.kill(process, number)
    assert faults.end([process], number) == [status], "a second one changes nothing"
    told = (tmp_path / "stderr").read_text().splitlines()[-1]
    line = f"python train_search.py {' '.join(LONG)} --resume"
    assert told == f"train_search.py: stopped by {number.name}; to go on: {line}"
    assert not runs.load_checkpoint(tmp_path / "supernet.pt", "supernet")["finished"]
    assert not list(tmp_path.glob(".*")), "no lock and no unfinished file remains"


def test_a_run_that_is_stopped_before_it_has_begun_is_not_to_be_resumed(folder, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "announce", stop)
    assert train_search(SEARCH) == 130
    assert capsys.readouterr().err.endswith(f"to go on: python train_search.py {' '.join(SEARCH)}\n")


def test_a_signal_to_a_run_and_its_loaders_ends_in_one_line(tmp_path, monkeypatch):
    """SLURM, torchrun and a terminal send a signal to all processes of a run."""
    write_image_folder(tmp_path / "images", count=30)
    monkeypatch.setattr(data, "DEVICE_BYTES", 0)
    plan = ["train_search", *LONG, "--dataset", "images", "--preset", "laptop", "--layers", "3", "--batch-size", "2"]
    [process] = faults.start([*plan, "--workers", "1"], tmp_path)
    wait_for_a_step(tmp_path)
    assert faults.wait(process, 0.3) is None
    os.killpg(process, signal.SIGTERM)
    assert faults.wait(process) == 143
    told = (tmp_path / "stderr").read_text().splitlines()[-1]
    assert told.startswith("train_search.py: stopped by SIGTERM; to go on: ")


def test_a_second_run_that_writes_to_the_same_file_is_told_and_stops(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    [process] = faults.start(["train_search", *LONG], tmp_path)
    wait_for_a_step(tmp_path)
    for flags in ([], ["--resume"]):
        assert train_search([*LONG, *flags]) == 2
        assert "another run is writing to supernet.pt" in capsys.readouterr().err
    assert faults.end([process], signal.SIGKILL) == [-signal.SIGKILL]
    assert [path.name for path in tmp_path.glob(".*.lock")] == [".supernet.lock"], "a killed run leaves it"
    assert train_search([*LONG, "--epochs", "1"]) == 0
    assert not list(tmp_path.glob(".*"))


def test_a_lock_whose_file_the_former_run_has_removed_is_none(tmp_path, monkeypatch):
    """A second run has the file open as the first removes it, and a third makes it anew."""
    lockf, save = runs.fcntl.lockf, tmp_path / "supernet.pt"

    def remove_and_lock(file, how):
        monkeypatch.setattr(runs.fcntl, "lockf", lockf)
        Path(file.name).unlink()
        stack.enter_context(runs.lock(save))
        lockf(file, how)

    monkeypatch.setattr(runs.fcntl, "lockf", remove_and_lock)
    with contextlib.ExitStack() as stack, pytest.raises(runs.UserError, match="another run is writing"):
        stack.enter_context(runs.lock(save))


@given(place=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_a_changed_bit_in_a_checkpoint_is_noticed_unless_it_changes_nothing(finished, tmp_path_factory, place, bit):
    """Nobody reads some bits of headers, and the zeros between data."""
    whole, path = bytearray((finished / "supernet.pt").read_bytes()), tmp_path_factory.getbasetemp() / "changed.pt"
    whole[place % len(whole)] ^= 1 << bit
    path.write_bytes(whole)
    try:
        found = runs.load_checkpoint(path, "supernet")
        assert faults.drop_times(found) == faults.drop_times(torch.load(finished / "supernet.pt"))
    except runs.UserError as error:
        assert "changed.pt is damaged or no checkpoint" in str(error)


def test_data_that_a_changed_bit_turns_into_a_folder_is_noticed(folder):
    """Its checksum is right, but PyTorch returns numbers that nobody wrote, without an error."""
    whole, entry = bytearray(Path("supernet.pt").read_bytes()), b"PK\x01\x02"
    name = whole.index(b"data/9", whole.index(entry))
    whole[whole.rindex(entry, 0, name) + 38] ^= 0x10
    Path("supernet.pt").write_bytes(whole)
    with pytest.raises(runs.UserError, match="damaged or no checkpoint"):
        runs.load_checkpoint(Path("supernet.pt"), "supernet")


def test_a_full_disk_leaves_the_last_good_checkpoint(folder, finished):
    """No file may become as large as the checkpoint: the real error of the real call, as on a full disk."""
    shutil.copy("supernet.epoch001.pt", "supernet.pt")
    before = Path("supernet.pt").read_bytes()

    def search_in_little_space(line):
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, resource.RLIM_INFINITY))
        return train_search(line)

    line = [*SEARCH, "--resume"]
    assert faults.wait(faults.fork(search_in_little_space, line, folder, {})) == 2
    told = Path("stderr").read_text().splitlines()[-1]
    assert told.startswith("train_search.py: error: cannot write supernet.")
    assert "too large" in told
    assert Path("supernet.pt").read_bytes() == before
    assert not list(folder.glob(".*")), "no part of a file remains"
    assert train_search(line) == 0
    assert faults.read_results(folder) == faults.read_results(finished)


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert train_search([*SEARCH, "--save", str(tmp_path / "supernet.pt")]) == 2
    assert f"cannot write {tmp_path / 'supernet.pt'}: the folder is read-only" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_link_stays_a_link_and_its_target_is_written(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "supernet.pt").symlink_to(tmp_path / "elsewhere" / "large.pt")
    assert train_search([*LONG, "--epochs", "1", "--save", str(tmp_path / "supernet.pt")]) == 0
    assert (tmp_path / "supernet.pt").is_symlink()
    assert runs.load_checkpoint(tmp_path / "elsewhere" / "large.pt", "supernet")["finished"]
