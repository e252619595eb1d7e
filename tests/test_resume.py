"""Runs that are stopped anywhere, killed, or whose files are damaged go on as if nothing had happened, bit for bit.

The long form of the kills is `python tests/faults.py`.
"""

from __future__ import annotations

import copy
import io
import json
import os
import random
import resource
import signal
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import data as data_module
import runs
from data import Images
from genotypes import PUBLISHED
from ptnas import (
    Meter,
    Network,
    Progress,
    Retraining,
    RetrainSettings,
    Search,
    SearchSettings,
    Selection,
    SelectionSettings,
    Sgas,
)
from tests import faults
from tests.conftest import Batches, load_script, make_images, make_supernet, write_image_folder

TRAIN, VALID = Batches(*make_images(12, seed=1)), Batches(*make_images(11, seed=2))
train_search, select = load_script("train_search").main, load_script("select").main
ANALYZE = load_script("analyze")
SEARCH = ["--space", "s2", "--epochs", "2", "--channels", "2", "--limit", "100", "--threads", "1"]

# ------------------------------------------------------------------------------------- at every place inside of a step


def search(kind=Search, space="s2", **how):
    supernet = make_supernet(space, channels=2, spread=0.1)
    return kind(supernet, SearchSettings(epochs=2, batch_size=4, eval_batch_size=3, lr=0.1, **how), TRAIN, VALID)


def selection(space="s2", **how):
    how = SelectionSettings(tune_epochs=2, noise_passes=2, **how)
    plan = SearchSettings(batch_size=5, eval_batch_size=3, noise="gaussian", lr=0.5)
    return Selection(make_supernet(space, channels=2), plan, how, TRAIN, VALID)


def retraining():
    torch.manual_seed(0)
    network = Network(PUBLISHED["DARTS_V2"], 3, 4, 3, 1, auxiliary=True).double()
    return Retraining(network, RetrainSettings(epochs=2, batch_size=4, eval_batch_size=3), TRAIN, VALID)


def strengths():
    judge = selection()
    measures = [partial(ANALYZE.strength, judge, "reduce", edge, "supernet.pt") for edge in (2, 5)]
    return ANALYZE.Measurements(measures)


TASKS = {
    "search": search,
    "search of second order with noise": partial(search, order=2, noise="uniform"),
    "search with fixed α": partial(search, alpha="fixed"),
    "SGAS by perturbation": partial(search, Sgas, sgas="perturbation"),
    "selection": partial(selection, "s4"),
    "selection that converges": partial(selection, tune="converge"),
    "selection by discretisation": partial(selection, criterion="discretization", metric="loss"),
    "retraining": retraining,
    "strengths": strengths,
}


class StopHereError(Exception):
    pass


def loaded(content):
    """As a checkpoint brings it back."""
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def run_through(make, steps, stops=lambda saves: False):
    """The records and the last state of a task that is stopped, and begun anew with the state that it had, wherever
    `stops` says so; and how often that was."""
    task, records, saved, count = make(), [], None, 0

    def pause(saves=True):
        if stops(saves):
            raise StopHereError

    while len(records) < steps:
        task.progress.pause = pause
        if saved is None:
            torch.manual_seed(len(records))
        else:
            torch.set_rng_state(saved["random"])
        try:
            records.append(task.step())
            saved = None
        except StopHereError:
            count += 1
            saved = loaded({"task": task.state_dict(), "random": torch.get_rng_state()})
            task = make()
            task.load_state_dict(saved["task"])
    return records, faults.timeless(task.state_dict()), count


@pytest.mark.parametrize("name", TASKS)
def test_a_step_that_is_stopped_anywhere_comes_to_the_same_end(name):
    """At every second place, and in what a copy of the supernet does at fewer: that begins from the start."""
    whole = run_through(TASKS[name], 2)
    generator = random.Random(0)
    stopped = run_through(TASKS[name], 2, lambda saves: generator.random() < (0.5 if saves else 0.03))
    assert stopped[2] > 2
    assert stopped[:2] == whole[:2]


def test_a_loop_goes_on_after_the_turns_that_are_over_with_what_it_has_measured():
    def turns(progress, meter):
        for number in progress.each(lambda start: range(start, 5), meter):
            meter.add(torch.eye(3)[None, number % 3], torch.tensor([0]))
            seen.append(number)

    seen, whole, parts = [], Meter(), [Meter(), Meter()]
    turns(Progress(), whole)
    assert seen == [0, 1, 2, 3, 4]
    calls = iter([False, False, True])

    def pause():
        if next(calls):
            raise StopHereError

    first, second = Progress(pause), Progress()
    with pytest.raises(StopHereError):
        turns(first, parts[0])
    second.load_state_dict(loaded(first.state_dict()))
    turns(second, parts[1])
    assert seen[5:] == [0, 1, 2, 3, 4]
    assert parts[1].read() == whole.read()


def test_batches_begin_where_they_are_asked_to_as_if_the_others_had_been_taken():
    pixels = torch.randint(0, 256, (50, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean = torch.full((3, 1, 1), 128.0)
    data = Images(pixels, torch.arange(50), torch.arange(50), mean, mean, pad=2, flip=True, cutout=3)
    for share in ((0, 1), (0, 2), (1, 2)):
        each = replace(data, share=share)
        whole = list(each.batches(8, epoch=3))
        for start in (0, 3, len(whole)):
            later = list(each.batches(8, 3, start))
            assert len(later) == len(whole) - start
            for got, wanted in zip(later, whole[start:], strict=True):
                assert all(map(torch.equal, got, wanted))


# ------------------------------------------------------------------------------------------------------------- killed


@pytest.fixture(scope="module")
def supernet(tmp_path_factory):
    return faults.prepared(tmp_path_factory.mktemp("faults") / "supernet")


@pytest.mark.parametrize("name", ["train_search", "select by masking", "retrain", "analyze fig1"])
def test_what_is_killed_at_random_moments_comes_to_the_same_end(name, supernet, tmp_path):
    plan = tuple(supernet if each == "SUPERNET" else each for each in faults.PLANS[name])
    assert "every bit the same" in faults.check(plan, tmp_path / "runs", 3, random.Random(1))


def test_two_processes_that_are_killed_go_on_to_the_same_end_and_only_two(tmp_path):
    plan = faults.PLANS["torchrun train_search"]
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    faults.undisturbed(plan, tmp_path / "whole")
    checkpoint = tmp_path / "stopped" / "supernet.pt"

    def inside_a_step():
        return checkpoint.exists() and runs.load_checkpoint(checkpoint, "supernet")["random"] is not None

    while not inside_a_step():  # one that is killed a moment too late stands between two steps
        processes = faults.started(plan, tmp_path / "stopped", "--resume", "--checkpoint-minutes", "1e-9")
        wait_for(inside_a_step)
        assert faults.killed(processes) == [-signal.SIGKILL] * 2
    assert faults.waited(faults.forked("train_search", [*plan[2:], "--resume"], tmp_path / "stopped")) == 2
    assert "was stopped inside a step by 2 processes" in (tmp_path / "stopped" / "stderr").read_text()
    faults.undisturbed(plan, tmp_path / "stopped", "--resume")
    assert faults.results(tmp_path / "stopped") == faults.results(tmp_path / "whole")


def test_a_signal_to_all_processes_of_a_run_leaves_its_loaders_to_it(tmp_path, monkeypatch):
    """As SLURM, torchrun and a terminal send it."""
    images = write_image_folder(tmp_path / "images", count=30)
    monkeypatch.setattr(data_module, "DEVICE_BYTES", 0)
    small = ["--preset", "laptop", "--epochs", "1000", "--channels", "2", "--threads", "1", "--workers", "1"]
    plan = ["--space", "s2", "--dataset", str(images), *small, "--checkpoint-minutes", "1e-9"]
    process = faults.forked("train_search", plan, tmp_path)
    wait_for((tmp_path / "supernet.pt.before").exists)  # the second one, of an epoch that has begun
    time.sleep(1)
    os.killpg(process, signal.SIGTERM)
    assert faults.waited(process, 60) == 143, (tmp_path / "stderr").read_text()


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_where_its_state_is_whole_and_says_how_to_go_on(tmp_path, number, status):
    long = [*SEARCH[:2], "--epochs", "1000", *SEARCH[4:], "--checkpoint-minutes", "1e-9"]
    process = faults.forked("train_search", long, tmp_path)
    wait_for((tmp_path / "supernet.pt.before").exists)
    os.kill(process, number)
    os.kill(process, number)  # at once: from a batch system and from a shell, perhaps
    assert faults.waited(process, 60) == status
    told = (tmp_path / "stderr").read_text()
    assert "finishing the step" in told
    line = told.strip().splitlines()[-1]
    wanted = f"train_search.py: stopped by {number.name}, its last checkpoint is supernet.pt; to go on: "
    assert line == f"{wanted}python train_search.py {' '.join(long)} --resume"
    assert not runs.load_checkpoint(tmp_path / "supernet.pt", "supernet")["finished"]
    assert not list(tmp_path.glob(".*")), "locks and unfinished files remain"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_arrives_where_python_loses_its_exception_is_not_lost():
    class Freed:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    with runs.SIGNALS.handled():
        Freed()
        assert runs.SIGNALS.seen == signal.SIGTERM


def test_a_second_run_that_writes_to_the_same_file_is_told_and_stops(tmp_path, capsys):
    long = [*SEARCH[:2], "--epochs", "1000", *SEARCH[4:]]
    process = faults.forked("train_search", long, tmp_path)
    try:
        wait_for((tmp_path / "supernet.pt.before").exists)
        for flags in ([], ["--resume"]):
            assert train_search([*long, "--save", str(tmp_path / "supernet.pt"), *flags]) == 2
            error = capsys.readouterr().err
            assert f"another run is writing to {tmp_path / 'supernet.pt'}: process {process} on " in error
        assert not list(tmp_path.glob("supernet.1.*"))
    finally:
        os.kill(process, signal.SIGKILL)
        faults.waited(process)
    assert list(tmp_path.glob(".*.lock")), "what a killed run leaves"
    assert train_search([*SEARCH, "--save", str(tmp_path / "supernet.pt")]) == 0
    assert not list(tmp_path.glob(".*.lock"))


# -------------------------------------------------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    assert train_search([*SEARCH, "--save", str(folder / "supernet.pt")]) == 0
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    for path in finished.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data[:-80], lambda data: b""])
def test_where_the_newest_checkpoint_is_damaged_the_one_before_it_is_used(folder, finished, capsys, damage):
    newest = folder / "supernet.pt"
    newest.write_bytes(damage(newest.read_bytes()))
    assert select(["--ckpt", str(newest)]) == 2
    assert train_search([*SEARCH, "--save", str(newest), "--resume"]) == 0
    assert f"going on from the one before it, {newest}.before" in capsys.readouterr().err
    assert faults.results(folder) == faults.results(finished)
    for path in (newest, runs.earlier(newest)):
        path.write_bytes(damage(path.read_bytes()))
    assert train_search([*SEARCH, "--save", str(newest), "--resume"]) == 2
    assert "supernet.pt.before is damaged" in capsys.readouterr().err


def test_a_checkpoint_that_is_lost_is_replaced_by_the_one_before_it(folder, finished, capsys):
    (folder / "supernet.pt").unlink()
    assert train_search([*SEARCH, "--save", str(folder / "supernet.pt"), "--resume"]) == 0
    assert "there is no file" in capsys.readouterr().err
    assert faults.results(folder) == faults.results(finished)


def test_a_checkpoint_that_cannot_be_read_just_now_is_left_as_it_is(folder, monkeypatch, capsys):
    newest = folder / "supernet.pt"
    before, read = newest.read_bytes(), runs.Path.read_bytes

    def refuse(path):
        if path == newest:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(runs.Path, "read_bytes", refuse)
        assert train_search([*SEARCH, "--save", str(newest), "--resume"]) == 2
    assert "Permission denied" in capsys.readouterr().err
    assert newest.read_bytes() == before


def test_the_file_that_a_link_leads_to_is_written(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "supernet.pt").symlink_to(tmp_path / "elsewhere" / "large.pt")
    assert train_search([*SEARCH[:2], "--save", str(tmp_path / "supernet.pt"), "--resume", *SEARCH[2:]]) == 0
    assert (tmp_path / "supernet.pt").is_symlink()
    assert runs.load_checkpoint(tmp_path / "elsewhere" / "large.pt", "supernet")["finished"]
    assert not runs.load_checkpoint(runs.earlier(tmp_path / "supernet.pt"), "supernet")["finished"]


def test_a_run_does_not_go_on_with_other_images(tmp_path, capsys):
    images, save = write_image_folder(tmp_path / "images"), str(tmp_path / "supernet.pt")
    plan = ["--space", "s2", "--dataset", str(images), "--preset", "laptop", "--channels", "2", "--threads", "1"]
    assert train_search([*plan, "--epochs", "2", "--keep-every", "1", "--save", save]) == 0
    (tmp_path / "supernet.epoch001.pt").replace(save)
    (images / "train" / "pear" / "0.png").unlink()
    assert train_search([*plan, "--epochs", "2", "--save", save, "--resume"]) == 2
    assert "begun on other images: their images have changed" in capsys.readouterr().err


def test_a_damaged_checkpoint_of_a_figure_is_replaced_by_the_one_before_it(folder, capsys):
    line = ["proposition", "--ckpt", str(folder / "supernet.pt"), "--threads", "1", "--save", str(folder / "p.png")]
    assert ANALYZE.main(line) == 0
    wanted = faults.results(folder)["p.json"]
    (folder / "p.pt").write_bytes((folder / "p.pt").read_bytes()[:-100])
    assert ANALYZE.main([*line, "--resume"]) == 0
    assert "going on from the one before it" in capsys.readouterr().err
    assert faults.results(folder)["p.json"] == wanted


@given(place=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_a_single_bit_that_has_changed_is_noticed(finished, place, bit):
    data = bytearray((finished / "supernet.pt").read_bytes())
    data[place % len(data)] ^= 1 << bit
    (finished / "changed.pt").write_bytes(data)
    with pytest.raises(runs.DamagedError):
        runs.load_checkpoint(finished / "changed.pt", "supernet")
    (finished / "changed.pt").unlink()


def test_a_full_disk_leaves_the_last_good_checkpoint_and_is_told(tmp_path, finished):
    """No file may become as large as the checkpoint is: the real error of the real call, as on a full disk."""
    begun = [*SEARCH, "--keep-every", "1"]
    assert train_search([*begun, "--save", str(tmp_path / "supernet.pt")]) == 0
    (tmp_path / "supernet.epoch001.pt").replace(tmp_path / "supernet.pt")
    before = (tmp_path / "supernet.pt").read_bytes()

    def limited(arguments):
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, resource.RLIM_INFINITY))
        return train_search(arguments)

    faults.SCRIPTS["limited"] = limited
    assert faults.waited(faults.forked("limited", [*begun, "--resume"], tmp_path)) == 2
    told = (tmp_path / "stderr").read_text().strip().splitlines()[-1]
    assert told.startswith("train_search.py: error: cannot write supernet.")
    assert "too large" in told
    assert (tmp_path / "supernet.pt").read_bytes() == before
    assert not list(tmp_path.glob(".*")), "a part of a file remains"
    assert train_search([*SEARCH, "--save", str(tmp_path / "supernet.pt"), "--resume"]) == 0
    wanted, got = (torch.load(path / "supernet.pt", weights_only=True) for path in (finished, tmp_path))
    assert faults.timeless(got) == faults.timeless(wanted)


def test_a_folder_that_becomes_read_only_is_told(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(runs.Path, "replace", refuse)
    assert train_search([*SEARCH, "--save", str(tmp_path / "supernet.pt")]) == 2
    assert "Permission denied" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------------------ numbers


def test_a_loss_that_is_not_finite_is_told_with_its_epoch_batch_and_learning_rate(tmp_path, capsys):
    save = tmp_path / "supernet.pt"
    for minutes in ("10", "1e-9"):
        assert train_search([*SEARCH, "--lr", "1e30", "--save", str(save), "--checkpoint-minutes", minutes]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert "of epoch 1, learning rate 1e+30" in error
        assert "the loss became nan in batch " in error
        assert "smaller --lr" in error
        for path in tmp_path.glob("*.pt*"):
            content = torch.load(path, weights_only=True)
            assert runs.odd(content["state"], "state") is None


def test_a_signal_after_a_loss_that_is_not_finite_ends_in_one_line(tmp_path, monkeypatch, capsys):
    def stopped(_):
        raise runs.Stopped(signal.SIGTERM, whole=True)

    def lost(_):
        raise FloatingPointError("the loss became nan in batch 3")

    monkeypatch.setattr(Search, "step", stopped)
    save, kept = runs.Run._save, []
    monkeypatch.setattr(runs.Run, "_save", lambda *args: lost(args) if kept else kept.append(save(*args)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert load_script("train_search").main(SEARCH) == 2
    assert "the loss became nan in batch 3 of epoch 1, learning rate" in capsys.readouterr().err


def test_a_state_that_is_not_finite_is_neither_saved_nor_read(folder, capsys):
    content = torch.load(folder / "supernet.pt", weights_only=True)
    bad = copy.deepcopy(content)
    bad["state"]["bilevel"]["supernet"]["skeleton.classifier.weight"][0, 0] = torch.inf
    runs.save_checkpoint(folder / "supernet.pt", bad)
    assert select(["--ckpt", str(folder / "supernet.pt"), "--save", str(folder / "genotype.json")]) == 2
    assert "state.bilevel.supernet.skeleton.classifier.weight is not finite" in capsys.readouterr().err
    assert runs.odd(content["state"], "state") is None
    assert not (folder / "genotype.json").exists()


def test_deterministic_algorithms_are_asked_for_and_noted(tmp_path):
    save = tmp_path / "supernet.pt"
    try:
        assert train_search([*SEARCH, "--epochs", "1", "--deterministic", "--save", str(save)]) == 0
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.load(save, weights_only=True)["computing"]["deterministic"] is True


def test_a_log_has_no_line_twice(folder):
    log = folder / "supernet.jsonl"
    log.write_text(log.read_text() + log.read_text()[:50])  # as a run leaves it that is killed while it writes
    (folder / "supernet.pt").unlink()
    runs.earlier(folder / "supernet.pt").replace(folder / "supernet.pt")
    assert train_search([*SEARCH, "--save", str(folder / "supernet.pt"), "--resume"]) == 0
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2]
