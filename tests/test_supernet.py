"""The supernet against the plain reference, and what presence, masks and the shared starts of operations promise."""

from __future__ import annotations

import contextlib
import copy
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from genotypes import SPACES, Space
from ptnas import Bilevel, Candidate, Meter, SearchSettings, Shared, Supernet, Zero, evaluate
from tests.conftest import Batches, make_images, make_supernet
from tests.reference import Reference, measure

spaces = st.sampled_from(("s1", "s2", "s3", "s4", "nb201", "darts"))


def list_candidates(supernet):
    """Returns all operations of all edges."""
    return [
        Candidate(cell_type, edge, operation)
        for cell_type, rows in supernet.space.operations.items()
        for edge, names in enumerate(rows)
        for operation in range(len(names))
    ]


@contextlib.contextmanager
def change_at_random(supernet, draw):
    """Decides and prunes some edges, and masks some edges and operations inside the `with` block."""
    with contextlib.ExitStack() as masks:
        for cell_type, rows in supernet.space.operations.items():
            for edge, names in enumerate(rows):
                operation = draw(st.integers(0, len(names) - 1))
                changes = draw(st.sampled_from(("", "", "decide", "prune", "mask", "mask edge", "decide, mask edge")))
                if "decide" in changes:
                    supernet.decide(cell_type, edge, operation)
                if "prune" in changes:
                    supernet.prune(cell_type, edge)
                if "mask" in changes:
                    masks.enter_context(supernet.mask(cell_type, edge, None if "edge" in changes else operation))
        yield


def assert_equal(supernet, reference, images, labels, number=0):
    """Asserts that logits and the gradients of all parameters are equal, to rounding."""
    logits = supernet(images, number), reference(images, supernet.presence, number)
    torch.testing.assert_close(*logits)
    gradients = [
        torch.autograd.grad(F.cross_entropy(each, labels), list(network.parameters()), materialize_grads=True)
        for each, network in zip(logits, (supernet, reference), strict=True)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


# ---- equal to the reference


@pytest.mark.parametrize(("size", "layers"), [(8, 3), (9, 5), (11, 3)])
@pytest.mark.parametrize("space", sorted(SPACES))
def test_the_supernet_equals_the_plain_reference_in_logits_and_gradients(space, size, layers):
    supernet = make_supernet(space, layers, image_channels=2)
    assert_equal(supernet, Reference.like(supernet, layers, 4, 3, 2), *make_images(6, size, channels=2), number=3)


@given(space=spaces, low_memory=st.booleans(), data=st.data())
def test_whatever_is_masked_decided_and_pruned_the_supernet_equals_the_reference(space, low_memory, data):
    supernet = make_supernet(space, low_memory=low_memory)
    with change_at_random(supernet, data.draw):
        assert_equal(supernet, Reference.like(supernet, 3, 4, 3, 1), *make_images(5))


# A space that nobody published: its node 3 has a single input, which is not an input of the cell.
CHAIN = Space(
    "chain", "darts", ((0, 2), (1, 2), (2, 3)), dict.fromkeys(("normal", "reduce"), (("noise", "skip_connect"),) * 3),
    topology=True, none_allowed=False,
)  # fmt: skip


@pytest.mark.parametrize("space", ["s2", "nb201", CHAIN], ids=["s2", "nb201", "chain"])
def test_a_node_without_inputs_is_zero(space):
    supernet = make_supernet(space)
    reference = Reference.like(supernet, 3, 4, 3, 1)
    for cell_type, node in itertools.product(supernet.space.cell_types, supernet.space.nodes):
        with contextlib.ExitStack() as masks:
            for edge in supernet.space.into(node):
                masks.enter_context(supernet.mask(cell_type, edge))
            assert_equal(supernet, reference, *make_images(5, 9))


@pytest.mark.parametrize("space", ["s1", "s4", "nb201"])
def test_evaluate_measures_under_each_mask_what_the_reference_measures(space):
    """`noise` draws the same numbers under every mask, and new ones for each batch and in the second pass."""
    supernet, data = make_supernet(space, classes=7), Batches(*make_images(11, classes=7))
    supernet.decide(supernet.space.cell_types[-1], 4, 1)
    reference = Reference.like(supernet, 3, 4, 7, 1)
    masks = [None, *list_candidates(supernet)[::7], Candidate(supernet.space.cell_types[0], 2, None)]
    for mask, measured in zip(masks, evaluate(supernet, data, 6, masks, passes=2), strict=True):
        with supernet.mask(*mask) if mask else contextlib.nullcontext():
            passes = [measure(reference, supernet.presence, data, 6, first) for first in (0, data.count(6))]
        assert measured[:3] == pytest.approx([sum(pair) / 2 for pair in zip(*passes, strict=True)])
        assert [images for _, images in measured.by_class] == [4, 4, 4, 4, 2, 2, 2]
        assert sum(right for right, _ in measured.by_class) == pytest.approx(measured.accuracy * 0.22)


def test_a_loss_that_is_not_finite_is_no_measurement():
    supernet = make_supernet()
    nn.init.constant_(supernet.skeleton.classifier.weight, torch.inf)
    with pytest.raises(FloatingPointError):
        evaluate(supernet, Batches(*make_images()), 6)


# ---- masks and decisions


@given(space=spaces, data=st.data())
def test_masking_an_operation_equals_removing_it(space, data):
    supernet, (images, _) = make_supernet(space), make_images(4)
    cell_type, edge, operation = data.draw(st.sampled_from(list_candidates(supernet)))
    removed = make_supernet(space)
    for cell in removed.skeleton.cells:
        if cell.cell_type == cell_type:
            cell.edges[edge].operations[operation] = Zero(cell.edges[edge].stride)
    with supernet.mask(cell_type, edge, operation):
        torch.testing.assert_close(supernet(images), removed(images))


def test_a_mask_leaves_nothing_behind_also_after_an_exception():
    supernet = make_supernet()
    supernet.decide("reduce", 3, 1)
    before = copy.deepcopy(supernet.presence)
    with pytest.raises(RuntimeError), supernet.mask("normal", 0, 1), supernet.mask("reduce", 3):
        assert supernet.presence != before
        raise RuntimeError
    assert supernet.presence == before


def test_the_state_of_a_supernet_includes_its_presence():
    supernet, other, (images, _) = make_supernet(seed=0), make_supernet(seed=1), make_images()
    supernet.decide("normal", 3, 1)
    supernet.prune("reduce", 7)
    other.load_state_dict(supernet.state_dict())
    assert other.presence == supernet.presence
    assert torch.equal(other(images), supernet(images))
    for wrong in ([[0], False], [[0, 1], True], [[2], True], [[1, 0], False]):
        state = copy.deepcopy(supernet.state_dict())
        state["_extra_state"]["normal"][5] = wrong
        with pytest.raises(ValueError, match="presence of the normal cell"):
            other.load_state_dict(state)


# ---- what is computed, and what is kept


def test_absent_operations_and_none_are_not_computed():
    supernet, computed, (images, _) = make_supernet("s3"), [], make_images()
    for index, operation in enumerate(supernet.skeleton.cells[0].edges[3].operations):
        operation.register_forward_hook(lambda *_, index=index: computed.append(index))
    with supernet.mask("normal", 3, 2):
        supernet(images)
    assert computed == [1]
    supernet(images)
    assert computed == [1, 1, 2]


@pytest.mark.parametrize("low_memory", [False, True])
def test_edges_from_one_node_compute_the_equal_starts_of_their_operations_once_in_a_pass(low_memory):
    supernet, calls, (images, _) = make_supernet("darts", low_memory=low_memory), [], make_images()
    starts = [module for module in supernet.modules() if isinstance(module, Shared)]
    for shared in starts:
        shared.start.register_forward_hook(lambda *_, shared=shared: calls.append(shared))
    # Five nodes feed edges. Each begins with max pooling, average pooling and ReLU, and both inputs of a reduction
    # cell with halves for skip_connect: 15 starts in the normal cell, 17 in each of the two reduction cells.
    assert len(starts) == 15 + 2 * 17
    with torch.no_grad():
        supernet(images)
    assert len(calls) == len(set(calls)) == len(starts)
    supernet(images).sum().backward()
    assert {calls.count(shared) for shared in calls} == {3 if low_memory else 2}
    assert all(shared.x is shared.y is None for shared in starts), "they forget what they have computed"

    def fail(*_):
        raise RuntimeError("no memory is left")

    supernet.skeleton.cells[-1].edges[-1].operations[-1].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="no memory"):
        supernet(images)
    assert all(shared.x is shared.y is None for shared in starts), "also when a pass fails"


@pytest.mark.parametrize(("space", "order"), [("s4", 1), ("darts", 1), ("nb201", 1), ("s2", 2)])
def test_low_memory_changes_no_bit_of_a_search(space, order):
    results = []
    for low_memory in (False, True):
        bilevel = Bilevel(make_supernet(space, low_memory=low_memory), SearchSettings(lr=0.1, order=order))
        for _ in range(2):
            bilevel.step_alpha(make_images(8), make_images(8, seed=1))
            bilevel.step_w(make_images(8))
        results.append(bilevel.alpha + bilevel.w)
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_low_memory_keeps_less_for_the_backward_pass():
    kept = []
    for low_memory in (False, True):
        supernet, storages = make_supernet("darts", layers=8, low_memory=low_memory), {}

        def pack(x, storages=storages):
            storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            supernet(make_images()[0])
        kept.append(sum(storages.values()))
    assert kept[1] < 0.2 * kept[0]


@pytest.mark.parametrize("space", sorted(SPACES))
def test_a_supernet_keeps_no_running_statistics_and_its_cells_no_scale_beside_alpha(space):
    supernet, (images, _) = make_supernet(space, layers=5), make_images()
    norms = [module for module in supernet.modules() if isinstance(module, nn.BatchNorm2d)]
    inside = [module for module in supernet.skeleton.cells.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.running_mean is None and norm.affine == (norm not in inside) for norm in norms)
    assert len(norms) - len(inside) == (6 if space == "nb201" else 1), "stem, residual blocks and head, or the stem"
    assert torch.equal(supernet.eval()(images), supernet.train()(images))


def test_equal_logits_count_as_argmax_and_a_stable_order_take_them():
    meter, labels = Meter(), torch.arange(7)
    meter.add(torch.zeros(7, 7), labels)
    meter.add(torch.tensor([1.0, 0, 0, 0, 0, 0, 1]).expand(7, 7), labels)
    measured = meter.read()
    assert measured.by_class == [(2, 2), *6 * [(0, 2)]]
    assert measured.top5 == pytest.approx(100 * (5 + 5) / 14)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("space", sorted(SPACES))
def test_feature_maps_and_their_gradients_are_stored_with_the_channels_last(space, size):
    """Where the order changes the norms are five times as slow on a CPU, and so is everything before them."""
    supernet, layouts = make_supernet(space, image_channels=3).float(), []

    def look(_, __, out):
        layouts.append(out.stride(1) == 1)
        out.register_hook(lambda gradient: layouts.append(gradient.stride(1) == 1))

    for module in supernet.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(look)
    images, labels = make_images(size=size, channels=3, dtype=torch.float)
    F.cross_entropy(supernet(images), labels).backward()
    assert layouts
    assert all(layouts)


def test_the_forward_pass_reads_nothing_back_from_the_device():
    with torch.device("meta"):  # where there is nothing to read
        assert Supernet(SPACES["darts"], 3, 4, 3, 1)(torch.empty(4, 1, 8, 8)).shape == (4, 3)
