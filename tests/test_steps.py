"""A step is a function of the state and of the records of the earlier steps. So a run that was killed can go on."""

from __future__ import annotations

import io

import pytest
import torch

from genotypes import PUBLISHED
from ptnas import (
    Bilevel,
    Network,
    Retraining,
    RetrainSettings,
    Search,
    SearchSettings,
    Selection,
    SelectionSettings,
    Sgas,
)
from tests.conftest import Batches, make_images, make_supernet

DATA = Batches(*make_images(12, dtype=torch.float))


def take_steps(task, records=(), until=None):
    """Takes the steps that follow the records, each with a seed of its own. Returns all records."""
    for number in range(len(records), until or task.total):
        torch.manual_seed(number)
        records = [*records, task.step(records)]
    return records


def search(kind=Search, **settings):
    settings = SearchSettings(epochs=3, batch_size=6, **settings)
    supernet = make_supernet("s4", channels=2, fixed_alpha=settings.alpha == "fixed").float()
    return kind(supernet, settings, DATA, DATA)


def select(space="s4", **settings):
    supernet = make_supernet(space, channels=2).float()
    bilevel = Bilevel(supernet, SearchSettings(batch_size=12, lr=0.5))
    return Selection(bilevel, SelectionSettings(**settings), DATA, DATA)


def retrain():
    torch.manual_seed(0)
    network = Network(PUBLISHED["DARTS_V1"], 3, 4, 3, 1, auxiliary=True)
    return Retraining(network, RetrainSettings(epochs=3, batch_size=6, lr=0.1), DATA, DATA)


TASKS = {
    "bilevel search": search,
    "bilevel search of second order": lambda: search(order=2, noise="uniform"),
    "search with fixed α": lambda: search(alpha="fixed", noise="gaussian"),
    "SGAS": lambda: search(Sgas, sgas="magnitude"),
    "SGAS+PT": lambda: search(Sgas, sgas="perturbation", noise="uniform"),
    "selection": lambda: select(tune_epochs=1),
    "selection on NAS-Bench-201": lambda: select("nb201", tune_epochs=1, metric="loss"),
    "selection that converges": lambda: select(tune_epochs=2, tune="converge", metric="loss"),
    "selection by discretisation": lambda: select(tune_epochs=1, criterion="discretization"),
    "retraining": retrain,
}


@pytest.mark.parametrize("begin", TASKS.values(), ids=TASKS)
def test_a_task_that_was_saved_and_loaded_takes_the_same_steps_to_the_same_bits(begin):
    whole, stopped, resumed = begin(), begin(), begin()
    records, file = take_steps(stopped, until=1), io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    until = 3
    assert take_steps(resumed, records, until) == take_steps(whole, until=until)
    ours, theirs = (
        (task.network if begin is retrain else task.bilevel.supernet).state_dict() for task in (resumed, whole)
    )
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]) if torch.is_tensor(value) else value == theirs[name]
