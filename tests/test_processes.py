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
from torch.nn import functional as F

from genotypes import PUBLISHED
from ptnas import Bilevel, Candidate, Judge, Network, Retraining, RetrainSettings, SearchSettings, SelectionSettings
from tests.conftest import ROOT, Batches, load_script, make_images, make_supernet

PROCESSES = 2
TRAIN, VALID = make_images(12, seed=1), make_images(22, seed=2)

# ---- what is computed together


def measure_masks(share):
    """Masks all operations of an edge and all inputs of a node, with batches of 5, 5, 4, 4 and 4 images."""
    data, supernet = Batches(*VALID, share), make_supernet("s4")
    how = SelectionSettings(noise_passes=2)
    judge = Judge(supernet, SearchSettings(eval_batch_size=5), how, data, data, trained=0)
    operations = [Candidate("reduce", 5, operation) for operation in range(2)]
    inputs = [Candidate("normal", edge, None) for edge in supernet.space.into(4)]
    return judge.measure([None, *operations, *inputs])


def split(batch):
    return list(zip(*(each.tensor_split(PROCESSES) for each in batch), strict=True))


def take_bilevel_steps(order, kind=Bilevel, part=None):
    """Takes two steps of α and w, on the whole batches or on the part of a process. Returns the parameters."""
    bilevel = kind(make_supernet("s1", seed=3), SearchSettings(order=order, clip=0.1), lr=0.1)
    train, valid = (batch if part is None else split(batch)[part] for batch in (TRAIN, VALID))
    for _ in range(2):
        bilevel.step_alpha(train, valid)
        bilevel.step_w(train)
    return {name: value.detach() for name, value in bilevel.supernet.named_parameters()}


def make_retraining(share=(0, 1)):
    torch.manual_seed(0)
    network = Network(PUBLISHED["DARTS_V2"], 3, 4, 3, 1).double()
    settings = RetrainSettings(epochs=1, batch_size=12, auxiliary=0.0, drop_path=0.0)
    return Retraining(network, settings, Batches(*TRAIN, share), Batches(*VALID, share))


def compute_together(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=PROCESSES)
    found = {"masks": measure_masks((rank, PROCESSES)), 1: take_bilevel_steps(1, part=rank)}
    found[2] = take_bilevel_steps(2, part=rank)
    retraining = make_retraining((rank, PROCESSES))
    found |= {"record": retraining.step([]), "network": retraining.network.state_dict()}
    torch.save(found, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Returns what each of two processes has computed."""
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(compute_together, (folder,), PROCESSES)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(PROCESSES)]


def test_two_processes_measure_the_same_as_one_bit_for_bit(both):
    alone = measure_masks((0, 1))
    assert both[0]["masks"] == both[1]["masks"] == alone
    assert len({each.loss for each in alone}) == len(alone)


class Averaging(Bilevel):
    """One process that takes the mean of the losses of two half-batches, and so of their gradients."""

    def _compute_loss(self, batch, weights=None):
        logits, losses = zip(*(super(Averaging, self)._compute_loss(half, weights) for half in split(batch)))  # noqa: B905
        return torch.cat(logits), sum(losses) / PROCESSES


@pytest.mark.parametrize("order", [1, 2])
def test_a_step_of_two_processes_averages_the_gradients_of_two_half_batches(both, order):
    first, second = (each[order] for each in both)
    start = dict(make_supernet("s1", seed=3).named_parameters())
    for name, value in take_bilevel_steps(order, Averaging).items():
        assert torch.equal(first[name], second[name]), "the processes have parted"
        torch.testing.assert_close(first[name], value)
        assert not torch.equal(start[name], value), name


def test_retraining_averages_gradients_and_running_statistics(both):
    alone = make_retraining()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))  # as `Batches` draws it in epoch 0
    networks = [copy.deepcopy(alone.network).train() for _ in range(PROCESSES)]
    for network, half in zip(networks, order.tensor_split(PROCESSES), strict=True):
        F.cross_entropy(network(TRAIN[0][half])[0], TRAIN[1][half]).backward()
    for parameter, *each in zip(*(network.parameters() for network in (alone.network, *networks)), strict=True):
        parameter.grad = sum(own.grad for own in each) / PROCESSES
    torch.nn.utils.clip_grad_norm_(alone.network.parameters(), alone.settings.clip)
    alone.optimizer.step()
    wanted = dict(alone.network.named_parameters())
    buffers = zip(*(network.named_buffers() for network in networks), strict=True)
    wanted |= {each[0][0]: sum(buffer for _, buffer in each) / PROCESSES for each in buffers}
    first, second = (each["network"] for each in both)
    assert both[0]["record"] == both[1]["record"]
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name, value in wanted.items():
        torch.testing.assert_close(first[name], value.detach().to(first[name].dtype))


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
