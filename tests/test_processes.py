"""Several processes: what they compute together is what one computes, and one of them writes."""

from __future__ import annotations

import copy
import signal
import socket
import subprocess
import sys
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn import functional as F

import runs
from data import load_data
from genotypes import PUBLISHED
from ptnas import Bilevel, Candidate, Network, RetrainSettings, SearchSettings, Training, retrain
from runs import UserError
from tests import faults
from tests.conftest import ROOT, SMALL, Batches, load_script, make_images, make_supernet, write_image_folder
from tests.test_steps import make_judge

PROCESSES = 2
TRAIN, VALID = make_images(12, seed=1), make_images(22, seed=2)

# ---- what is computed together


def measure_masks(share):
    """Masks all operations of an edge and all inputs of a node, with batches of 5, 5, 4, 4 and 4 images."""
    data, supernet = Batches(*VALID, share), make_supernet("s4")
    judge = make_judge(supernet, data, SearchSettings(eval_batch_size=5), passes=2)
    operations = [Candidate("reduce", 5, operation) for operation in range(2)]
    inputs = [Candidate("normal", edge, None) for edge in supernet.space.into(4)]
    return judge.measure([None, *operations, *inputs])


def split(batch):
    return list(zip(*(each.tensor_split(PROCESSES) for each in batch), strict=True))


def take_bilevel_steps(order, kind=Bilevel, part=None):
    """Takes two steps of α and w, on the whole batches or on the part of a process. Returns the parameters."""
    bilevel = kind(make_supernet("s1", seed=3), SearchSettings(lr=0.1, order=order, clip=0.1))
    train, valid = (batch if part is None else split(batch)[part] for batch in (TRAIN, VALID))
    for _ in range(2):
        bilevel.step_alpha(train, valid)
        bilevel.step_w(train)
    return {name: value.detach() for name, value in bilevel.supernet.named_parameters()}


def make_training():
    torch.manual_seed(0)
    network = Network(PUBLISHED["DARTS_V2"], 3, 4, 3, 1).double()
    return Training(network, RetrainSettings(epochs=1, batch_size=12, auxiliary=0.0, drop_path=0.0))


def compute_together(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=PROCESSES)
    found = {"masks": measure_masks((rank, PROCESSES)), 1: take_bilevel_steps(1, part=rank)}
    found[2] = take_bilevel_steps(2, part=rank)
    training = make_training()
    (record,) = retrain(training, Batches(*TRAIN, (rank, PROCESSES)), Batches(*VALID, (rank, PROCESSES)))
    found |= {"record": record, "network": training.network.state_dict()}
    for place, count, classes in (("same", 4, "ab"), ("other", 4 + rank, "ab"), ("swapped", 4, ("ab", "ba")[rank])):
        images = write_image_folder(folder / place / str(rank), count=count, classes=classes)
        try:
            found[place] = str(load_data({"dataset": str(images), "seed": 0}, torch.device("cpu")).describe()["images"])
        except UserError as error:
            found[place] = str(error)
    torch.save(found, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Returns what each of two processes has computed."""
    folder = tmp_path_factory.mktemp("processes")
    mp.start_processes(compute_together, (folder,), PROCESSES, start_method="fork")
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(PROCESSES)]


def test_two_processes_measure_the_same_as_one_bit_for_bit(both):
    alone = measure_masks((0, 1))
    assert both[0]["masks"] == both[1]["masks"] == alone
    assert len({each.loss for each in alone}) == len(alone)


def test_processes_that_see_other_images_are_refused_before_the_first_step(both):
    for rank, each in enumerate(both):
        assert each["same"] == "[8, 8]", "in whatever folder they lie"
        for place in ("other", "swapped"):
            assert "the processes do not see the same images and classes in " in each[place]
            assert each[place].endswith(f"/{place}/{rank}: give each the same files")


def test_a_process_that_does_not_meet_the_others_says_so_in_time(tmp_path, monkeypatch, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in meeting.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(runs, "MEETING", timedelta(seconds=1))
    assert load_script("train_search").main(["--space", "s2", "--save", str(tmp_path / "supernet.pt")]) == 2
    assert "error: cannot meet the other processes: " in capsys.readouterr().err.splitlines()[-1]


class Averaging(Bilevel):
    """One process that takes the mean of the losses of two half-batches, and so of their gradients."""

    def _compute_loss(self, batch, weights=None, amp=False):
        logits, losses = zip(*(super(Averaging, self)._compute_loss(half, weights, amp) for half in split(batch)))  # noqa: B905
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
    alone = make_training()
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


# ---- The commands


def run_together(folder, script, *arguments):
    """Runs a command in two processes, as torchrun does: when one fails, the other is ended. Returns what they have
    printed in this folder, and their exit statuses."""
    processes = faults.start(["torchrun", script, *arguments], folder)
    statuses = [faults.wait(processes[0])]
    statuses += faults.end(processes[1:], signal.SIGTERM) if statuses[0] else [faults.wait(processes[1])]
    return (folder / "stdout").read_text().splitlines(), (folder / "stderr").read_text(), statuses


def test_the_three_commands_run_in_two_processes_and_one_of_them_speaks_and_writes(tmp_path):
    search = ("train_search", "--space", "nb201", "--layers", "1", "--epochs", "1", "--noise", "gaussian", *SMALL)
    select = ("select", "--ckpt", "supernet.pt", "--tune-epochs", "1", "--threads", "1")
    retrain = ("retrain", "--arch", "genotype.json", "--epochs", "1", *SMALL)
    for line, save in ((search, "supernet.pt"), (select, "genotype.json"), (retrain, "network.pt")):
        out, err, statuses = run_together(tmp_path, *line)
        assert statuses == [0, 0], err
        assert out[-1].split()[1] == f"{save}:"
        *_, finished, result = run_together(tmp_path, *line, "--resume")[0]
        assert finished.endswith("nothing is left to do")
        assert result == out[-1]
    assert len(out) == 3 * 4 + 2 * 2, "one of two speaks: three opening lines and the result"
    assert torch.load(tmp_path / "network.pt", weights_only=True)["computing"]["processes"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--save", "nowhere/supernet.pt"], "cannot write nowhere/supernet.pt"), (["--resume"], "supernet.pt is damaged")],
)
def test_an_error_is_told_once(tmp_path, arguments, message):
    (tmp_path / "supernet.pt").write_text("damaged")
    _, err, statuses = run_together(tmp_path, "train_search", "--space", "s2", "--device", "cpu", *arguments)
    assert statuses[0] == 2
    assert len(err.splitlines()) == 1
    assert message in err


def test_torchrun_runs_a_command(folder):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    line = [str(ROOT / "select.py"), "--ckpt", "supernet.pt", "--criterion", "magnitude", "--tune-epochs", "0"]
    ended = subprocess.run([*torchrun, *line, "--save", "other.json"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("genotype other.json: ") == 1
