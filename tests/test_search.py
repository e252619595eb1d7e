"""The search: settings, the gradients of α, the steps of α and w, the schedule."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import ptnas
from genotypes import PUBLISHED, SPACES
from ptnas import Bilevel, Network, RetrainSettings, SearchSettings, SelectionSettings, Training
from tests.conftest import Batches, make_images, make_supernet
from tests.test_steps import take_steps

# ---- settings


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        *((SearchSettings, "layers", value) for value in (0, 1001, 2.5, True, "8", None, [8])),
        *((SearchSettings, "lr", value) for value in (-0.1, math.nan, math.inf, "0.1", False, None)),
        *((SearchSettings, "order", value) for value in (0, 3, True, "1", 1.0)),
        *((SearchSettings, "alpha", value) for value in ("Fixed", "", None, 0, ["fixed"])),
        *((SearchSettings, "amp", value) for value in (1, "yes", None)),
        (SearchSettings, "batch_size", 1),
        (SearchSettings, "clip", math.nan),
        (SelectionSettings, "criterion", "luck"),
        (SelectionSettings, "tune_epochs", -1),
        (SelectionSettings, "seed", 2**31),
        (RetrainSettings, "drop_path", 1.0),
    ],
)
def test_settings_of_a_wrong_type_choice_or_range_are_refused_by_name(kind, name, value):
    with pytest.raises(ptnas.SettingError, match=f"^{name} is .*, and must be "):
        kind(**{name: value})


def test_settings_take_what_is_theirs_and_have_defaults_for_the_rest():
    found = SearchSettings.of({"lr": 1, "clip": math.inf, "order": 2, "tune_epochs": 3})
    assert found == SearchSettings(lr=1, clip=math.inf, order=2)
    assert SelectionSettings.of({"lr": 1, "tune_epochs": 0}) == SelectionSettings(tune_epochs=0)


# ---- the gradients of α


class TinySupernet(nn.Module):
    """Two smooth branches on one edge, mixed by softmax(α): the objective can be differentiated by hand."""

    fixed_alpha = False

    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor([0.3, -0.2]))
        self.a, self.b = nn.Linear(4, 5), nn.Linear(4, 5)
        self.out = nn.Linear(5, 3)

    def forward(self, x, number=0, weights=None):
        weights = torch.softmax(self.alpha, 0) if weights is None else weights
        return self.out(weights[0] * torch.tanh(self.a(x)) + weights[1] * torch.sin(self.b(x)))

    def weight_parameters(self):
        return [parameter for name, parameter in self.named_parameters() if name != "alpha"]

    def alpha_parameters(self):
        return [self.alpha]


def tiny_problem(steps):
    """Returns a Bilevel of the tiny model in double precision after a few steps, and two batches."""
    torch.manual_seed(0)
    train, valid = ((torch.randn(6, 4).double(), torch.arange(6) % 3) for _ in range(2))
    bilevel = Bilevel(TinySupernet().double(), SearchSettings(weight_decay=0.05, lr=0.3))
    for _ in range(steps):
        bilevel.step_w(train)
    return bilevel, train, valid


def finite_differences(objective, alpha, step=1e-5):
    shifts = step * torch.eye(len(alpha), dtype=alpha.dtype)
    return torch.stack([(objective(alpha + shift) - objective(alpha - shift)) / (2 * step) for shift in shifts])


def compute_loss(model, alpha, weights, batch):
    """Returns the loss of a model with these α and weights."""
    return F.cross_entropy(functional_call(model, {**weights, "alpha": alpha}, (batch[0],)), batch[1])


def test_the_first_order_gradient_of_alpha_is_that_of_the_validation_loss():
    bilevel, _, valid = tiny_problem(steps=2)
    model = bilevel.supernet
    weights = {name: value.detach() for name, value in model.named_parameters() if name != "alpha"}
    wanted = finite_differences(lambda alpha: compute_loss(model, alpha, weights, valid), model.alpha.detach())
    torch.testing.assert_close(bilevel.compute_gradient(valid)[0], wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("steps", [0, 3], ids=["without momentum", "with momentum"])
def test_the_second_order_gradient_of_alpha_is_that_of_the_unrolled_objective(steps):
    bilevel, train, valid = tiny_problem(steps)
    model, settings = bilevel.supernet, bilevel.settings
    weights = {name: value for name, value in model.named_parameters() if name != "alpha"}

    def objective(alpha):
        gradients = torch.autograd.grad(compute_loss(model, alpha, weights, train), list(weights.values()))
        unrolled = {}
        for (name, w), gradient in zip(weights.items(), gradients, strict=True):
            buffer = bilevel.w_optimizer.state[w]["momentum_buffer"] if steps else torch.zeros_like(w)
            unrolled[name] = (w - 0.3 * (0.9 * buffer + gradient + settings.weight_decay * w)).detach()
        return compute_loss(model, alpha, unrolled, valid).detach()

    before = {name: value.clone() for name, value in model.state_dict().items()}
    second, first = bilevel.compute_unrolled_gradient(train, valid)[0], bilevel.compute_gradient(valid)[0]
    wanted = finite_differences(objective, model.alpha.detach())
    torch.testing.assert_close(second, wanted, rtol=1e-3, atol=1e-6)
    assert (first - wanted).norm() > 20 * (second - wanted).norm(), "the second order makes a difference here"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "w is left as it was"


def test_under_amp_the_second_order_gradient_is_still_that_of_float32():
    images, gradients = [make_images(dtype=torch.float, seed=seed) for seed in (0, 1)], {}
    for amp in (False, True):
        bilevel = Bilevel(make_supernet("s2").float(), SearchSettings(amp=amp))
        bilevel.step_w(images[0])
        bilevel.supernet.load_state_dict(make_supernet("s2").float().state_dict())  # this step was in bfloat16
        bilevel.w_optimizer.state.clear()
        gradients[amp] = bilevel.compute_gradient(images[1]), bilevel.compute_unrolled_gradient(*images)
    first, second = zip(*gradients.values(), strict=True)
    assert not torch.equal(first[0][0], first[1][0])
    assert all(torch.equal(*pair) for pair in zip(*second, strict=True))


def test_evaluation_and_the_unrolled_step_are_in_true_float32_whatever_was_asked_for():
    supernet, data, seen = make_supernet().float(), Batches(*make_images(dtype=torch.float)), []
    supernet.register_forward_hook(
        lambda _, __, out: seen.append(
            (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, out.dtype == torch.float)
        )
    )
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    bilevel, batch = Bilevel(supernet, SearchSettings(amp=True)), make_images(dtype=torch.float)
    try:
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        bilevel.step_w(batch)
        with torch.autocast("cpu", torch.bfloat16):
            ptnas.evaluate(supernet, data, 6)
            bilevel.compute_unrolled_gradient(batch, batch)
        bilevel.step_w(batch)
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
    assert seen == [("high", True, False), *6 * [("highest", False, True)], ("high", True, False)]


# ---- the steps


def test_the_step_of_alpha_comes_before_that_of_w_and_each_moves_its_own():
    supernet = make_supernet()
    bilevel, calls = Bilevel(supernet, SearchSettings(lr=0.1)), []
    for step in (bilevel.step_alpha, bilevel.step_w):

        def watch(*batches, step=step, name=step.__name__):
            before = {key: value.detach().clone() for key, value in supernet.named_parameters()}
            result = step(*batches)
            moved = {key for key, value in supernet.named_parameters() if not torch.equal(value, before[key])}
            calls.append((name, {key.startswith("alpha") for key in moved}))
            return result

        setattr(bilevel, step.__name__, watch)
    data = Batches(*make_images(12))
    bilevel.batch_size = 6
    bilevel.train_epoch(data, data)
    assert calls == 2 * [("step_alpha", {True}), ("step_w", {False})]


def test_every_batch_of_training_has_noise_of_its_own():
    supernet, seen, data = make_supernet("s4"), [], Batches(*make_images(12))
    supernet.noise_operations[0].register_forward_hook(lambda noise, *_: seen.append(noise.number))
    bilevel = Bilevel(supernet, SearchSettings(batch_size=6, lr=0.1))
    for _ in range(2):
        bilevel.train_epoch(data, data)
    assert seen == [0, 0, 1, 1, 2, 2, 3, 3], "the steps of α and w on a batch share theirs"


@pytest.mark.parametrize("space", sorted(SPACES))
def test_in_single_precision_too_a_step_is_that_of_plain_sgd(space):
    """The fused optimiser is wrong, and does not say so, where w and its gradient differ in their memory layout."""
    supernet = make_supernet(space, channels=8, image_channels=3).float()
    other, settings = copy.deepcopy(supernet), SearchSettings(lr=0.1, clip=1e9)
    images, labels = make_images(channels=3, dtype=torch.float)
    Bilevel(supernet, settings).step_w((images, labels))
    w = other.weight_parameters()
    F.cross_entropy(other(images), labels).backward()
    torch.optim.SGD(w, 0.1, momentum=settings.momentum, weight_decay=settings.weight_decay, foreach=False).step()
    for ours, theirs in zip(supernet.weight_parameters(), w, strict=True):
        torch.testing.assert_close(ours, theirs)


def flat(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def test_two_steps_are_those_of_adam_on_alpha_and_of_clipped_sgd_on_w_by_hand():
    supernet, (images, labels) = make_supernet(), make_images()
    bilevel, alpha = Bilevel(supernet, SearchSettings(clip=0.05)), supernet.alpha_parameters()
    w, m, v, buffer = supernet.weight_parameters(), 0, 0, 0
    for number in (1, 2):
        x = flat(alpha)
        gradient = flat(torch.autograd.grad(F.cross_entropy(supernet(images), labels), alpha)) + 1e-3 * x
        m, v = 0.5 * m + 0.5 * gradient, 0.999 * v + 0.001 * gradient.square()
        step = (m / (1 - 0.5**number)) / ((v / (1 - 0.999**number)).sqrt() + 1e-8)
        bilevel.step_alpha((images, labels), (images, labels))
        torch.testing.assert_close(flat(alpha), x - 3e-4 * step)
        x, gradient = flat(w), flat(torch.autograd.grad(F.cross_entropy(supernet(images), labels), w))
        assert gradient.norm() > 0.1
        buffer = 0.9 * buffer + 0.05 * gradient / (gradient.norm() + 1e-6) + 3e-4 * x
        bilevel.step_w((images, labels))
        torch.testing.assert_close(flat(w), x - 0.025 * buffer)


def test_absent_weights_are_left_alone_by_the_step_of_w():
    supernet = make_supernet()
    supernet.decide("normal", 0, 0)
    absent = supernet.skeleton.cells[0].edges[0].operations[1]
    before = copy.deepcopy(absent.state_dict())
    Bilevel(supernet, SearchSettings(lr=0.1)).step_w(make_images())
    assert all(torch.equal(value, before[name]) for name, value in absent.state_dict().items())


def test_the_alpha_of_a_decided_edge_stays_as_it_is():
    supernet, images = make_supernet(), make_images()
    bilevel = Bilevel(supernet, SearchSettings(alpha_lr=0.1))
    bilevel.step_alpha(images, images)  # so that Adam has moments for every row
    supernet.decide("normal", 3, 1)
    supernet.prune("normal", 5)
    before = {cell_type: alpha.detach().clone() for cell_type, alpha in supernet.alpha.items()}
    bilevel.step_alpha(images, images)
    moved = (supernet.alpha["normal"] != before["normal"]).any(dim=1).tolist()
    assert [edge for edge, each in enumerate(moved) if not each] == [3, 5]
    assert (supernet.alpha["reduce"] != before["reduce"]).all()


def test_fixed_alpha_stays_zero_exactly_and_the_weights_uniform_through_a_search():
    supernet, data = make_supernet("s3", fixed_alpha=True), Batches(*make_images())
    bilevel = Bilevel(supernet, SearchSettings(epochs=2, alpha="fixed"))
    records = take_steps(ptnas.search(bilevel, data, data))
    assert not any(alpha.any() or alpha.requires_grad for alpha in supernet.alpha_parameters())
    assert records[-1]["weights"]["normal"] == [pytest.approx([1 / 3] * 3)] * 14


# ---- the search


def test_a_search_learns_and_its_record_tells():
    data, supernet = Batches(*make_images(48, dtype=torch.float)), make_supernet(spread=1e-3).float()
    bilevel = Bilevel(supernet, SearchSettings(epochs=6, batch_size=16, lr=0.1))
    records = take_steps(ptnas.search(bilevel, data, data))
    assert records[-1]["valid_accuracy"] > 90
    assert records[-1]["valid_loss"] < records[0]["valid_loss"]
    rates = [0.001 + 0.099 * (1 + math.cos(math.pi * epoch / 6)) / 2 for epoch in range(6)]
    assert [record["lr"] for record in records] == pytest.approx(rates)
    assert bilevel.w_optimizer.param_groups[0]["lr"] == records[-1]["lr"]
    assert all(sum(row) == pytest.approx(1) for row in records[-1]["weights"]["normal"])
    assert records[-1]["valid_accuracy"] == ptnas.evaluate(supernet, data, 512)[0].accuracy


@pytest.mark.parametrize("task", ["search", "retraining"])
def test_under_amp_training_is_in_bfloat16_and_evaluation_in_float32(task):
    data, losses, seen = Batches(*make_images(dtype=torch.float)), [], set()
    for amp in (False, True):
        torch.manual_seed(0)
        if task == "search":
            network = make_supernet("s4").float()
            steps = ptnas.search(Bilevel(network, SearchSettings(epochs=1, amp=amp)), data, data)
        else:
            network = Network(PUBLISHED["DARTS_V2"], 3, 4, 3, 1, auxiliary=True)
            steps = ptnas.retrain(Training(network, RetrainSettings(epochs=1, amp=amp)), data, data)
        network.skeleton.cells[0].register_forward_hook(
            lambda _, __, out, amp=amp: seen.add((amp, torch.is_grad_enabled(), out.dtype))
        )
        losses.append(next(steps)["train_loss"])
        assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    exact, half = torch.float32, torch.bfloat16
    assert seen == {(False, True, exact), (False, False, exact), (True, True, half), (True, False, exact)}
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.05)
