"""Several processes: what they compute together is what one computes, and one of them writes."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from genotypes import PUBLISHED
from ptnas import Bilevel, Candidate, Network, Retraining, RetrainSettings, SearchSettings, Selection, SelectionSettings
from tests.conftest import ROOT, Batches, load_script, make_images, make_supernet

PROCESSES = 2
TRAIN, VALID = make_images(12, seed=1), make_images(22, seed=2)


def together(rank, folder, compute):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=PROCESSES)
    torch.save(compute((rank, PROCESSES)), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def in_processes(folder, compute):
    """What `compute(share)` returns in each of several processes."""
    mp.spawn(together, (folder, compute), PROCESSES)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(PROCESSES)]


def halves(batch):
    return zip(*(each.tensor_split(PROCESSES) for each in batch), strict=True)


# ------------------------------------------------------------------------------------------ what is computed together


def masked(share):
    """By accuracy and loss, of all operations of an edge and of all inputs of a node; batches of 5, 5, 4, 4 and 4."""
    data = Batches(*VALID, share)
    supernet = make_supernet("s4")
    judge = Selection(supernet, SearchSettings(eval_batch_size=5), SelectionSettings(noise_passes=2), data, data)
    of_edge = [Candidate("reduce", 5, operation) for operation in range(2)]
    of_node = [Candidate("normal", edge, None) for edge in supernet.space.into(4)]
    return [judge.measure(), *judge.measure_without(of_edge), *judge.measure_without(of_node)]


def test_two_processes_measure_the_same_as_one_bit_for_bit(tmp_path):
    alone = masked((0, 1))
    assert in_processes(tmp_path, masked) == [alone, alone]
    assert len({each.loss for each in alone}) == len(alone)


def make_bilevel(order):
    supernet = make_supernet("darts", seed=3)
    return Bilevel(supernet, SearchSettings(order=order, clip=0.1), lr=0.1)


def bilevel_steps(share, order):
    """Two steps of α and w, each process on its half of the batches."""
    bilevel = make_bilevel(order)
    (train, valid) = ([*halves(batch)][share[0]] for batch in (TRAIN, VALID))
    for _ in range(2):
        bilevel.alpha_step(train, valid)
        bilevel.w_step(train)
    return bilevel.supernet.state_dict()


def first_order(share):
    return bilevel_steps(share, 1)


def second_order(share):
    return bilevel_steps(share, 2)


class Averaging(Bilevel):
    """One process that averages the gradients of the same half-batches."""

    def w_step(self, train):
        gradients = [torch.autograd.grad(self._loss(half)[1], self.w, allow_unused=True) for half in halves(train)]
        for w, *each in zip(self.w, *gradients, strict=True):
            w.grad = (each[0] + each[1]) / 2
        torch.nn.utils.clip_grad_norm_(self.w, self.settings.clip)
        self.w_optimizer.step()

    def _gradient(self, batch, parameters):
        gradients = [super(Averaging, self)._gradient(half, parameters) for half in halves(batch)]
        return [(a + b) / 2 for a, b in zip(*gradients, strict=True)]


@pytest.mark.parametrize(("order", "steps"), [(1, first_order), (2, second_order)])
def test_a_step_of_two_processes_averages_the_gradients_of_two_half_batches(tmp_path, order, steps):
    bilevel = make_bilevel(order)
    start = copy.deepcopy(bilevel.supernet.state_dict())
    alone = Averaging(bilevel.supernet, bilevel.settings, lr=0.1)
    for _ in range(2):
        alone.alpha_step(TRAIN, VALID)
        alone.w_step(TRAIN)
    first, second = in_processes(tmp_path, steps)
    for name, value in alone.supernet.state_dict().items():
        if torch.is_tensor(value):
            assert torch.equal(first[name], second[name]), "the processes have parted"
            torch.testing.assert_close(first[name], value)
            assert not torch.equal(start[name], value), name


def make_retraining(share=(0, 1)):
    torch.manual_seed(0)
    network = Network(PUBLISHED["DARTS_V2"], 3, 4, 3, 1).double()
    settings = RetrainSettings(epochs=1, batch_size=12, auxiliary=0.0, drop_path=0.0)
    return Retraining(network, settings, Batches(*TRAIN, share), Batches(*VALID, share))


def retraining_step(share):
    task = make_retraining(share)
    record = task.step()
    return record, task.network.state_dict()


def test_retraining_averages_gradients_and_running_statistics(tmp_path):
    alone = make_retraining()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))  # as `Batches` draws it in epoch 0
    gradients, statistics = [], []
    for half in order.tensor_split(PROCESSES):
        network = copy.deepcopy(alone.network).train()
        torch.nn.functional.cross_entropy(network(TRAIN[0][half])[0], TRAIN[1][half]).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
        statistics.append([buffer for buffer in network.buffers() if buffer.is_floating_point()])
    for parameter, *each in zip(alone.network.parameters(), *gradients, strict=True):
        parameter.grad = sum(each) / PROCESSES
    torch.nn.utils.clip_grad_norm_(alone.network.parameters(), alone.settings.clip)
    alone.optimizer.step()
    (record, first), (same_record, second) = in_processes(tmp_path, retraining_step)
    assert record == same_record
    for name, parameter in alone.network.named_parameters():
        torch.testing.assert_close(first[name], parameter.detach())
    means = [sum(each) / PROCESSES for each in zip(*statistics, strict=True)]
    buffers = [name for name, buffer in alone.network.named_buffers() if buffer.is_floating_point()]
    for name, expected in zip(buffers, means, strict=True):
        torch.testing.assert_close(first[name], expected)
    assert all(torch.equal(first[name], second[name]) for name in first)


# ------------------------------------------------------------------------------------------------------- the commands


def torchrun(folder, *command, processes=PROCESSES):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    script = [str(ROOT / command[0]), *command[1:]]
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", *script]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_three_commands_run_in_two_processes_and_one_of_them_speaks_and_writes(tmp_path):
    size = ("--layers", "3", "--channels", "4", "--limit", "200")
    ended = torchrun(tmp_path, "train_search.py", "--space", "s4", "--epochs", "2", "--noise", "gaussian", *size)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("validation accuracy") == 1
    before = torch.load(tmp_path / "supernet.pt", weights_only=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        "supernet.jsonl",
        "supernet.pt",
        "supernet.pt.before",
        "supernet.png",
    }
    assert len((tmp_path / "supernet.jsonl").read_text().splitlines()) == 2

    ended = torchrun(tmp_path, "select.py", "--ckpt", "supernet.pt", "--tune-epochs", "1", "--tune", "converge")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("genotype genotype.json") == 1
    assert len(json.loads((tmp_path / "genotype.json").read_text())["genotype"]["normal"]) == 8

    plan = ("--arch", "genotype.json", "--epochs", "2", *size)
    ended = torchrun(tmp_path, "retrain.py", *plan)
    assert ended.returncode == 0, ended.stderr
    ended = torchrun(tmp_path, "retrain.py", *plan, "--resume")
    assert ended.stdout.count("nothing is left to do") == 1
    assert torch.load(tmp_path / "supernet.pt", weights_only=True)["records"] == before["records"]


def test_a_search_that_was_stopped_goes_on_in_two_processes_to_the_same_bits(tmp_path):
    plan = ("train_search.py", "--space", "s2", "--layers", "3", "--channels", "2", "--limit", "100", "--epochs", "2")
    assert torchrun(tmp_path, *plan, "--keep-every", "1").returncode == 0
    whole = torch.load(tmp_path / "supernet.pt", weights_only=True)
    (tmp_path / "supernet.epoch001.pt").replace(tmp_path / "supernet.pt")
    ended = torchrun(tmp_path, *plan, "--resume")
    assert ended.returncode == 0, ended.stderr
    again = torch.load(tmp_path / "supernet.pt", weights_only=True)
    assert again["computing"]["processes"] == PROCESSES
    before, after = (each["state"]["bilevel"]["supernet"] for each in (whole, again))
    assert all(torch.equal(before[name], after[name]) for name in before if torch.is_tensor(before[name]))
    assert [{**each, "seconds": 0} for each in whole["records"]] == [
        {**each, "seconds": 0} for each in again["records"]
    ]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train_search.py", "--space", "s2", "--save", "nowhere/supernet.pt"], "cannot write nowhere/supernet.pt"),
        (["train_search.py", "--space", "s2", "--resume"], "supernet.pt is damaged"),
        (["train_search.py", "--space", "s2", "--dataset", "nothing"], "no data set 'nothing'"),
    ],
)
def test_an_error_ends_all_processes_and_is_told_once(tmp_path, command, message):
    (tmp_path / "supernet.pt").write_text("damaged")
    ended = torchrun(tmp_path, *command)
    assert ended.returncode != 0
    assert ended.stderr.count(f"{command[0]}: error: ") == 1, ended.stderr
    assert message in ended.stderr
    assert not set(ended.stderr.split()) & {"UserError", "RuntimeError:", "runs.UserError:"}


def test_what_starts_commands_of_its_own_does_not_do_so_several_times(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert load_script("analyze").main(["fig3"]) == 2
    assert "this starts commands of its own" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_only_the_first_process_prints_and_writes_what_needs_no_meeting(tmp_path):
    ended = torchrun(tmp_path, "analyze.py", "cells", "DARTS_V2")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("written to") == 1
