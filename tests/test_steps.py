"""An algorithm begins where its state stands. So a run that was killed can go on."""

from __future__ import annotations

import io

import pytest
import torch

import ptnas
from genotypes import PUBLISHED
from ptnas import Bilevel, Judge, Network, RetrainSettings, SearchSettings, SelectionSettings, Training
from tests.conftest import Batches, make_images, make_supernet

DATA = Batches(*make_images(12, dtype=torch.float))


def take_steps(steps, first=0, until=None):
    """Takes the steps of an algorithm from the number `first` on, each with a seed of its own. Returns the records."""
    records = []
    while until is None or first + len(records) < until:
        torch.manual_seed(first + len(records))
        record = next(steps, None)
        if record is None:
            break
        records.append(record)
    return records


def make_judge(supernet, data=None, search=None, **settings):
    """Returns a judge of a supernet that was never trained, ready to be tuned."""
    bilevel, settings = (
        Bilevel(supernet, search or SearchSettings()),
        SelectionSettings(**{"tune_epochs": 0} | settings),
    )
    bilevel.start_tuning(settings.alpha)
    data = data or Batches(*make_images(12))
    return Judge(bilevel, settings, data, data)


def play(judge, until=None):
    """Plays the rounds of a selection up to `until`. Returns the records."""
    return take_steps(ptnas.select(judge, ptnas.plan_rounds(judge.supernet, judge.settings.seed)), until=until)


# Each returns a state, and a function from the number of steps that are done to the others.


def search(algorithm=ptnas.search, **settings):
    settings = SearchSettings(epochs=3, batch_size=6, **settings)
    supernet = make_supernet("s4", channels=2, fixed_alpha=settings.alpha == "fixed").float()
    bilevel = Bilevel(supernet, settings)
    return bilevel, lambda done: algorithm(bilevel, DATA, DATA)


def select(space="s4", **settings):
    supernet = make_supernet(space, channels=2).float()
    judge = make_judge(supernet, DATA, SearchSettings(batch_size=12, lr=0.5), **settings)
    rounds = ptnas.plan_rounds(supernet, 0)
    return judge.bilevel, lambda done: ptnas.select(judge, rounds, done)


def retrain():
    torch.manual_seed(0)
    network = Network(PUBLISHED["DARTS_V1"], 3, 4, 3, 1, auxiliary=True)
    training = Training(network, RetrainSettings(epochs=3, batch_size=6, lr=0.1))
    return training, lambda done: ptnas.retrain(training, DATA, DATA, done)


ALGORITHMS = {
    "bilevel search": search,
    "bilevel search of second order": lambda: search(order=2, noise="uniform"),
    "search with fixed α": lambda: search(alpha="fixed", noise="gaussian"),
    "SGAS": lambda: search(ptnas.search_sgas, sgas="magnitude"),
    "SGAS+PT": lambda: search(ptnas.search_sgas, sgas="perturbation", noise="uniform"),
    "selection": lambda: select(tune_epochs=1),
    "selection on NAS-Bench-201": lambda: select("nb201", tune_epochs=1, metric="loss"),
    "selection with a frozen α": lambda: select(tune_epochs=1, alpha="fixed"),
    "selection by discretization": lambda: select(tune_epochs=1, criterion="discretization"),
    "retraining": retrain,
}


@pytest.mark.parametrize("begin", ALGORITHMS.values(), ids=ALGORITHMS)
def test_an_algorithm_whose_state_was_saved_and_loaded_takes_the_same_steps_to_the_same_bits(begin):
    (whole, take), (stopped, take_first), (resumed, take_others) = begin(), begin(), begin()
    records, file = take_steps(take_first(0), until=1), io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert records + take_steps(take_others(1), first=1, until=3) == take_steps(take(0), until=3)
    ours, theirs = (each.network if begin is retrain else each.supernet for each in (resumed, whole))
    wanted = theirs.state_dict()
    for name, value in ours.state_dict().items():
        assert torch.equal(value, wanted[name]) if torch.is_tensor(value) else value == wanted[name]
