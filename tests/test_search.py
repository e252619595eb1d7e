"""Bilevel search: the gradients of α, the steps, the schedule."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from genotypes import PUBLISHED, SPACES, Space
from ptnas import Bilevel, Network, Retraining, RetrainSettings, Search, SearchSettings, cosine, evaluate, skip_gap
from tests.conftest import Batches, make_images, make_supernet


class TinySupernet(nn.Module):
    """Two smooth branches on one edge, mixed by softmax(α): the objective can be differentiated by hand."""

    fixed_alpha = False

    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor([0.3, -0.2]))
        self.a, self.b = nn.Linear(4, 5), nn.Linear(4, 5)
        self.out = nn.Linear(5, 3)

    def forward(self, x, batch=0, weights=None):
        weights = torch.softmax(self.alpha, 0) if weights is None else weights
        return self.out(weights[0] * torch.tanh(self.a(x)) + weights[1] * torch.sin(self.b(x)))

    def weight_parameters(self):
        return [parameter for name, parameter in self.named_parameters() if name != "alpha"]

    def alpha_parameters(self):
        return [self.alpha]


def tiny_problem(order, steps):
    """A Bilevel of the tiny model in double precision after a few steps, and two batches."""
    torch.manual_seed(0)
    model = TinySupernet().double()
    batches = [(torch.randn(6, 4).double(), torch.arange(6) % 3) for _ in range(2)]
    bilevel = Bilevel(model, SearchSettings(order=order, weight_decay=0.05), lr=0.3)
    for _ in range(steps):
        bilevel.w_step(batches[0])
    return bilevel, *batches


def finite_differences(objective, alpha, step=1e-5):
    gradient = torch.zeros_like(alpha)
    for index in range(alpha.numel()):
        shift = torch.zeros_like(alpha)
        shift.view(-1)[index] = step
        gradient.view(-1)[index] = (objective(alpha + shift) - objective(alpha - shift)) / (2 * step)
    return gradient


def validation_loss(model, alpha, weights, batch):
    return F.cross_entropy(functional_call(model, {**weights, "alpha": alpha}, (batch[0],)), batch[1]).item()


def test_the_first_order_gradient_of_alpha_is_that_of_the_validation_loss():
    bilevel, train, valid = tiny_problem(order=1, steps=2)
    model = bilevel.supernet
    weights = {name: value.detach() for name, value in model.named_parameters() if name != "alpha"}
    wanted = finite_differences(lambda alpha: validation_loss(model, alpha, weights, valid), model.alpha.detach())
    torch.testing.assert_close(bilevel.alpha_gradient(train, valid)[0], wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("steps", [0, 3], ids=["without momentum", "with momentum"])
def test_the_second_order_gradient_of_alpha_is_that_of_the_unrolled_objective(steps):
    bilevel, train, valid = tiny_problem(order=2, steps=steps)
    model, settings = bilevel.supernet, bilevel.settings
    weights = {name: value for name, value in model.named_parameters() if name != "alpha"}

    def objective(alpha):
        logits = functional_call(model, {**weights, "alpha": alpha}, (train[0],))
        gradients = torch.autograd.grad(F.cross_entropy(logits, train[1]), list(weights.values()))
        unrolled = {}
        for (name, w), gradient in zip(weights.items(), gradients, strict=True):
            buffer = bilevel.w_optimizer.state[w]["momentum_buffer"] if steps else torch.zeros_like(w)
            unrolled[name] = (w - 0.3 * (0.9 * buffer + gradient + settings.weight_decay * w)).detach()
        return validation_loss(model, alpha, unrolled, valid)

    before = {name: value.clone() for name, value in model.state_dict().items()}
    second, first = bilevel.unrolled(train, valid)[0], bilevel.alpha_gradient(train, valid)[0]
    wanted = finite_differences(objective, model.alpha.detach())
    torch.testing.assert_close(second, wanted, rtol=1e-3, atol=1e-6)
    assert (first - wanted).norm() > 20 * (second - wanted).norm(), "the second order makes a difference here"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "w is left as it was"


def test_the_unrolled_weights_are_those_of_the_next_step_of_sgd():
    bilevel, train, _ = tiny_problem(order=2, steps=3)
    twin = copy.deepcopy(bilevel)
    twin.settings = SearchSettings(clip=math.inf)
    twin.w_step(train)
    seen = []
    real = bilevel._loss

    def loss(batch):
        seen.append([w.detach().clone() for w in bilevel.w])
        return real(batch)

    bilevel._loss = loss
    bilevel.unrolled(train, train)
    for unrolled, stepped in zip(seen[1], twin.w, strict=True):
        torch.testing.assert_close(unrolled, stepped.detach())


@pytest.mark.parametrize("space", ["s2", "darts"])
def test_the_gradient_of_alpha_on_a_supernet_agrees_with_finite_differences(space):
    supernet, valid = make_supernet(space, spread=0.3), make_images(12, seed=2)
    bilevel = Bilevel(supernet, SearchSettings(), lr=0.01)
    gradient = bilevel.alpha_gradient(valid, valid)
    step = 1e-7  # small, for the loss has a kink wherever a ReLU changes sides
    for which, alpha in enumerate(supernet.alpha_parameters()):
        for index in ((0, 0), (6, 1), (13, 0)):
            losses = []
            for move in (step, -2 * step, step):
                with torch.no_grad():
                    alpha[index] += move
                    losses.append(F.cross_entropy(supernet(valid[0]), valid[1]).item())
            wanted = (losses[0] - losses[1]) / (2 * step)
            assert gradient[which][index].item() == pytest.approx(wanted, rel=1e-4, abs=1e-7)


def test_the_alpha_step_comes_before_the_w_step_and_each_moves_its_own():
    supernet = make_supernet()
    bilevel = Bilevel(supernet, SearchSettings(), lr=0.1)
    calls = []
    for name in ("alpha_step", "w_step"):
        real = getattr(bilevel, name)

        def watched(*batches, name=name, real=real):
            before = copy.deepcopy(supernet.state_dict())
            result = real(*batches)
            moved = {
                key.startswith("alpha")
                for key, value in supernet.state_dict().items()
                if torch.is_tensor(value) and not torch.equal(value, before[key])
            }
            calls.append((name, moved))
            return result

        setattr(bilevel, name, watched)
    data = Batches(*make_images(12))
    bilevel.epoch(data, data, epoch=0)
    assert calls == [("alpha_step", {True}), ("w_step", {False})]
    bilevel.batch_size = 6
    bilevel.epoch(data, Batches(*make_images(5)), epoch=0)
    assert len(calls) == 6, "a shorter validation half begins again"


def test_fixed_alpha_stays_zero_exactly_through_a_search():
    supernet = make_supernet(fixed_alpha=True)
    data = Batches(*make_images(12))
    Search(supernet, SearchSettings(epochs=2, alpha="fixed"), data, data).step()
    assert not any(alpha.any() for alpha in supernet.alpha_parameters())


def test_absent_weights_are_left_alone_by_the_w_step():
    supernet = make_supernet()
    supernet.decide("normal", 0, 0)
    absent = supernet.skeleton.cells[0].edges[0].operations[1]
    before = copy.deepcopy(absent.state_dict())
    bilevel = Bilevel(supernet, SearchSettings(), lr=0.1)
    bilevel.w_step(make_images())
    assert all(torch.equal(value, before[name]) for name, value in absent.state_dict().items())


def test_the_learning_rate_goes_from_its_start_to_its_end():
    assert cosine(0.025, 0.001, 0, 50) == pytest.approx(0.025)
    assert cosine(0.025, 0.001, 25, 50) == pytest.approx(0.013)
    assert cosine(0.025, 0.001, 50, 50) == pytest.approx(0.001)


def test_a_search_learns_and_its_record_tells():
    data = Batches(*make_images(48, dtype=torch.float))
    supernet = make_supernet(spread=1e-3).float()
    search = Search(supernet, SearchSettings(epochs=6, batch_size=16, lr=0.1), data, data)
    records = [search.step() for _ in range(6)]
    assert records[-1]["valid_accuracy"] > 90
    assert records[-1]["valid_loss"] < records[0]["valid_loss"]
    assert records[0]["lr"] == pytest.approx(0.1)
    assert all(sum(row) == pytest.approx(1) for row in records[-1]["weights"]["normal"])
    assert records[-1]["valid_accuracy"] == evaluate(supernet, data, 512).accuracy


@pytest.mark.parametrize("alpha", ["bilevel", "fixed"])
def test_a_search_continues_from_its_state_as_if_nothing_had_happened(alpha):
    data = Batches(*make_images(24, dtype=torch.float))
    settings = SearchSettings(epochs=3, batch_size=8, alpha=alpha)

    def begin():
        return Search(make_supernet("s4", fixed_alpha=alpha == "fixed").float(), settings, data, data)

    through, stopped = begin(), begin()
    records = [through.step() for _ in range(3)]
    stopped.step()
    resumed = begin()
    resumed.load_state_dict(copy.deepcopy(stopped.state_dict()))
    assert [resumed.step(), resumed.step()] == records[1:]


def test_the_gap_of_figure_3_counts_edges_with_skip_and_convolutions_only():
    rows = (
        ("skip_connect", "sep_conv_3x3", "dil_conv_3x3"),
        ("skip_connect", "none", "max_pool_3x3"),
        ("none", "sep_conv_3x3", "noise"),
    )
    space = Space(
        "mine", "darts", ((0, 2), (1, 2), (2, 3)), {"normal": rows, "reduce": rows[1:] + rows[1:2]}, True, False
    )
    supernet = make_supernet(space)
    row = torch.softmax(supernet.alpha["normal"][0], 0).tolist()
    assert skip_gap(supernet) == pytest.approx(row[0] - (row[1] + row[2]) / 2)
    assert skip_gap(make_supernet("s4")) is None
    assert SPACES["s4"].operations["normal"][0] == ("noise", "sep_conv_3x3")


def test_retraining_learns_and_continues_from_its_state():
    data = Batches(*make_images(36, dtype=torch.float))
    settings = RetrainSettings(layers=3, channels=4, epochs=6, batch_size=12, lr=0.1)

    def begin():
        torch.manual_seed(0)
        return Retraining(Network(PUBLISHED["DARTS_V1"], 3, 4, 3, 1, auxiliary=True), settings, data, data)

    def steps(retraining, first, last):
        records = []
        for step in range(first, last):
            torch.manual_seed(step)  # of drop-path
            records.append(retraining.step())
        return records

    through, stopped = begin(), begin()
    records = steps(through, 0, 6)
    steps(stopped, 0, 2)
    resumed = begin()
    resumed.load_state_dict(copy.deepcopy(stopped.state_dict()))
    assert steps(resumed, 2, 6) == records[2:]
    assert records[-1]["test_error"] < 10
    assert records[-1]["test_error"] == pytest.approx(100 - records[-1]["test_accuracy"])


def test_imagenet_retraining_reports_top_5_and_decays_exponentially():
    data = Batches(*make_images(24, size=32, classes=8, dtype=torch.float))
    settings = RetrainSettings(form="imagenet", epochs=2, lr=0.1, decay="exponential", label_smoothing=0.1)
    network = Network(PUBLISHED["DARTS_V1"], 3, 4, 8, 1, form="imagenet", auxiliary=True)
    retraining = Retraining(network, settings, data, data)
    records = [retraining.step(), retraining.step()]
    assert [record["lr"] for record in records] == pytest.approx([0.1, 0.097])
    assert 0 <= records[-1]["test_error_top5"] <= records[-1]["test_error"]


@pytest.mark.parametrize("space", sorted(SPACES))
def test_in_single_precision_too_a_step_is_that_of_plain_sgd(space):
    """The gradients of what lies channels last in memory lie so as well, which the fused optimiser does not see."""
    supernet = make_supernet(space, channels=8, image_channels=3).float()
    other = copy.deepcopy(supernet)
    settings = SearchSettings(clip=1e9)
    images, labels = make_images(16, channels=3, dtype=torch.float)
    Bilevel(supernet, settings, lr=0.1).w_step((images, labels))
    w = other.weight_parameters()
    torch.nn.functional.cross_entropy(other(images), labels).backward()
    torch.optim.SGD(w, 0.1, momentum=settings.momentum, weight_decay=settings.weight_decay, foreach=False).step()
    for mine, theirs in zip(supernet.weight_parameters(), w, strict=True):
        torch.testing.assert_close(mine, theirs)
