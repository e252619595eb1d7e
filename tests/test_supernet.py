"""The supernet against the plain reference, and the three verbs of presence."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from genotypes import SPACES, Space
from ptnas import Candidate, Noise, Supernet, Zero
from tests.conftest import make_images, make_supernet
from tests.reference import ReferenceSupernet

spaces = st.sampled_from(sorted(SPACES))


def cases(supernet):
    """Every (cell type, edge, operation) of a supernet."""
    return [
        (cell_type, edge, operation)
        for cell_type, rows in supernet.space.operations.items()
        for edge, names in enumerate(rows)
        for operation in range(len(names))
    ]


def change_at_random(supernet, draw):
    """Decide, prune and thin out some edges."""
    for cell_type, rows in supernet.space.operations.items():
        for edge, names in enumerate(rows):
            match draw(st.sampled_from(("keep", "keep", "decide", "prune", "thin"))):
                case "decide":
                    supernet.decide(cell_type, edge, draw(st.integers(0, len(names) - 1)))
                case "prune":
                    supernet.prune(cell_type, edge)
                case "thin":
                    presence = supernet.presence[cell_type][edge]
                    supernet.presence[cell_type][edge] = presence._replace(operations=presence.operations[1:])


@pytest.mark.parametrize("size", [8, 9, 11])
@pytest.mark.parametrize("space", sorted(SPACES))
def test_the_supernet_equals_the_plain_reference_in_logits_and_gradients(space, size):
    supernet = make_supernet(space, image_channels=2)
    reference = ReferenceSupernet.like(supernet, 3, 4, 3, 2)
    images, labels = make_images(6, size, channels=2)
    ours, theirs = supernet(images, batch=3), reference(images, supernet.presence, batch=3)
    torch.testing.assert_close(ours, theirs)
    gradients = [
        torch.autograd.grad(nn.functional.cross_entropy(logits, labels), list(network.parameters()))
        for logits, network in ((ours, supernet), (theirs, reference))
    ]
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other)


@given(space=spaces, data=st.data())
def test_whatever_is_masked_decided_and_pruned_the_supernet_equals_the_reference(space, data):
    supernet = make_supernet(space)
    reference = ReferenceSupernet.like(supernet, 3, 4, 3, 1)
    change_at_random(supernet, data.draw)
    images, labels = make_images(5)
    ours, theirs = supernet(images), reference(images, supernet.presence)
    torch.testing.assert_close(ours, theirs)
    w = supernet.skeleton.classifier.weight, supernet.skeleton.stem[0].weight
    other_w = reference.linear.weight, reference.stem_conv.weight
    loss, other_loss = (nn.functional.cross_entropy(logits, labels) for logits in (ours, theirs))
    gradients = torch.autograd.grad(loss, w, allow_unused=True, materialize_grads=True)
    other_gradients = torch.autograd.grad(other_loss, other_w, allow_unused=True, materialize_grads=True)
    for mine, other in zip(gradients, other_gradients, strict=True):
        torch.testing.assert_close(mine, other)


@given(space=spaces, data=st.data())
def test_masking_an_operation_equals_removing_it(space, data):
    supernet = make_supernet(space)
    cell_type, edge, operation = data.draw(st.sampled_from(cases(supernet)))
    removed = copy.deepcopy(supernet)
    for cell in removed.skeleton.cells:
        if cell.cell_type == cell_type:
            mixed = cell.edges[edge]
            mixed.operations[operation] = Zero(mixed.stride)
            mixed.names = (*mixed.names[:operation], "removed", *mixed.names[operation + 1 :])
            parts = None, None, mixed.operations[operation]
            mixed.parts = (*mixed.parts[:operation], parts, *mixed.parts[operation + 1 :])
    images, _ = make_images()
    with supernet.mask(cell_type, edge, operation):
        masked = supernet(images)
    torch.testing.assert_close(masked, removed(images))
    before = make_supernet(space)
    assert torch.equal(supernet(images), before(images)), "a mask leaves nothing behind"


@given(space=spaces, data=st.data())
def test_masks_of_different_edges_commute(space, data):
    supernet = make_supernet(space)
    pick = st.sampled_from(cases(supernet))
    a = data.draw(pick)
    b = data.draw(pick.filter(lambda other: other[:2] != a[:2]))
    images, _ = make_images()
    results = []
    for first, second in ((a, b), (b, a)):
        with supernet.mask(*first), supernet.mask(*second):
            results.append(supernet(images))
    assert torch.equal(*results)


def test_a_mask_ends_with_an_exception_too():
    supernet = make_supernet()
    before = copy.deepcopy(supernet.presence)
    with pytest.raises(RuntimeError), supernet.mask("normal", 0, 1):
        raise RuntimeError
    assert supernet.presence == before


@pytest.mark.parametrize("space", sorted(SPACES))
def test_a_decided_edge_equals_its_operation_alone(space):
    supernet = make_supernet(space)
    cell = supernet.skeleton.cells[0]
    x = torch.randn(4, 4, 8, 8, dtype=torch.double)
    rows, weights = supernet.space.operations[cell.cell_type], supernet.weights()[cell.cell_type]
    for edge, operation in itertools.product((0, 5, len(rows) - 1), range(len(rows[0]))):
        supernet.decide(cell.cell_type, edge, operation)
        mixed = cell.edges[edge](x, weights[edge], supernet.presence[cell.cell_type][edge])
        if rows[edge][operation] == "none":
            assert mixed is None
        else:
            assert torch.equal(mixed, cell.edges[edge].operations[operation](x))


def test_the_weights_of_what_remains_are_not_renormalised():
    supernet = make_supernet("s2")
    x = torch.randn(4, 4, 8, 8, dtype=torch.double)
    edge, weights = supernet.skeleton.cells[0].edges[0], supernet.weights()["normal"][0]
    with supernet.mask("normal", 0, 1):  # sep_conv_3x3: skip_connect remains
        assert torch.equal(edge(x, weights, supernet.presence["normal"][0]), weights[0] * x)


def test_what_is_absent_is_not_computed():
    supernet = make_supernet("s2")
    computed = []
    operation = supernet.skeleton.cells[0].edges[3].operations[1]
    operation[1].register_forward_hook(lambda *_: computed.append(True))
    images, _ = make_images()
    with supernet.mask("normal", 3, 1):
        supernet(images)
    assert not computed
    supernet(images)
    assert computed


def test_what_depends_on_the_node_alone_is_computed_once_for_all_its_edges():
    supernet, computed = make_supernet("darts"), []
    cell, (images, _) = supernet.skeleton.cells[0], make_images()
    for edge in cell.edges:
        for name, operation in zip(edge.names, edge.operations, strict=True):
            operation.register_forward_hook(lambda *_, name=name: computed.append(name))
    supernet(images)
    # 14 edges start from 5 nodes; convolutions are not called as a whole, for they begin with a shared ReLU.
    assert [computed.count(name) for name in ("max_pool_3x3", "avg_pool_3x3", "skip_connect")] == [5, 5, 14]
    computed.clear()
    for edge in supernet.space.into(3):
        supernet.decide("normal", edge, 0)
    with supernet.mask("normal", 5, 1):
        supernet(images)
    assert computed.count("max_pool_3x3") == 5
    assert computed.count("avg_pool_3x3") == 5


def test_the_batches_of_a_darts_supernet_are_kept_with_the_channels_last():
    """It is much faster on a CPU, and an operation that undoes it shows nowhere else."""
    supernet, layouts = make_supernet("darts").float(), []

    def see(module, args, out):
        layouts.append(out.is_contiguous(memory_format=torch.channels_last))

    for module in supernet.skeleton.cells.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(see)
    supernet(make_images(dtype=torch.float)[0])
    assert layouts
    assert all(layouts)


class Gradients(TorchDispatchMode):
    """How the gradients that reach the norms lie in memory."""

    def __init__(self):
        super().__init__()
        self.last = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.native_batch_norm_backward.default:
            self.last.append(args[0].stride(1) == 1)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("space", sorted(SPACES))
@pytest.mark.parametrize("size", [8, 9])
def test_the_gradients_of_a_supernet_have_the_channels_last_as_its_feature_maps_have(space, size):
    """Where the order changes the norms are five times as slow, and so is everything before them."""
    supernet = make_supernet(space, image_channels=3).float()
    images, labels = make_images(size=size, channels=3, dtype=torch.float)
    loss = nn.functional.cross_entropy(supernet(images), labels)
    with Gradients() as gradients:
        loss.backward()
    assert gradients.last
    assert all(gradients.last)


def test_what_noise_draws_does_not_depend_on_what_is_masked():
    supernet = make_supernet("s4")
    draws = {}
    for place, noise in enumerate(supernet.noises):
        noise.register_forward_hook(lambda _, __, out, place=place: draws.setdefault(place, []).append(out))
    images, _ = make_images()
    supernet(images, batch=5)
    with supernet.mask("normal", 2, 0), supernet.mask("reduce", 4, 1), supernet.mask("normal", 7):
        supernet(images, batch=5)
    pairs = [pair for pair in draws.values() if len(pair) == 2]
    assert len(pairs) > len(supernet.noises) - 5
    assert all(torch.equal(*pair) for pair in pairs)
    first = [drawn[0] for drawn in draws.values() if drawn[0].shape == draws[0][0].shape]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(first, 2)), "every place draws its own"
    supernet(images, batch=6)
    assert not torch.equal(draws[0][0], draws[0][-1]), "every batch has its own draws"


def test_noise_is_standard_normal_whatever_the_input():
    noise = Noise(stride=2)
    draw = noise(1e6 * torch.ones(64, 8, 9, 9))
    assert draw.shape == (64, 8, 5, 5)
    assert abs(draw.mean()) < 0.05
    assert abs(draw.std() - 1) < 0.05


def test_a_supernet_has_no_running_statistics_and_only_the_stem_is_affine():
    supernet = Supernet(SPACES["darts"], 5, 4, 10)
    norms = [module for module in supernet.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.running_mean is None for norm in norms)
    assert [norm for norm in norms if norm.affine] == [supernet.skeleton.stem[1]]
    images = torch.randn(8, 3, 8, 8)
    assert torch.equal(supernet.eval()(images), supernet.train()(images))


def test_on_nas_bench_201_the_norms_outside_the_cells_are_affine_and_pooling_has_none():
    supernet = Supernet(SPACES["nb201"], 2, 4, 10)
    norms = [module for module in supernet.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.running_mean is None for norm in norms)
    inside = [norm for norm in supernet.skeleton.cells.modules() if isinstance(norm, nn.BatchNorm2d)]
    assert len(inside) == 6 * 6 * 2, "two convolutions on each of six edges in each of six cells"
    assert all(norm.affine == (norm not in inside) for norm in norms)
    assert len(norms) - len(inside) == 1 + 2 * 2 + 1, "stem, residual blocks, head"


def test_pooling_is_followed_by_a_norm_in_the_supernet():
    supernet = make_supernet("darts")
    for index, name in enumerate(SPACES["darts"].operations["normal"][0]):
        operation = supernet.skeleton.cells[0].edges[0].operations[index]
        assert ("pool" in name) == isinstance(
            operation[-2] if isinstance(operation, nn.Sequential) else None, nn.MaxPool2d | nn.AvgPool2d
        )


def test_fixed_alpha_is_zero_exactly_and_gives_uniform_weights():
    supernet = make_supernet("darts", fixed_alpha=True)
    for alpha, weights in zip(supernet.alpha_parameters(), supernet.weights().values(), strict=True):
        assert not alpha.any()
        assert not alpha.requires_grad
        torch.testing.assert_close(weights, torch.full_like(weights, 1 / 7))


def test_cells_at_a_third_and_two_thirds_reduce():
    supernet = Supernet(SPACES["s2"], 8, 4, 10)
    assert [cell.cell_type for cell in supernet.skeleton.cells].count("reduce") == 2
    assert [supernet.skeleton.cells[layer].cell_type for layer in (2, 5)] == ["reduce", "reduce"]


@given(space=spaces, data=st.data())
def test_what_masks_have_in_common_is_computed_once_and_changes_no_bit(space, data):
    supernet, (images, _) = make_supernet(space, layers=5), make_images(5, 9)
    change_at_random(supernet, data.draw)
    cell_type = data.draw(st.sampled_from(supernet.space.cell_types))
    of_type = [case for case in cases(supernet) if case[0] == cell_type]
    edge, node = data.draw(st.sampled_from(of_type))[1], data.draw(st.sampled_from(list(supernet.space.nodes)))
    of_edge = [Candidate(*case) for case in of_type if case[1] == edge]
    of_node = [Candidate(cell_type, each, None) for each in supernet.space.into(node)]
    for candidates in (of_edge, of_node):
        together = list(supernet.without(candidates, images, batch=3))
        for candidate, logits in zip(candidates, together, strict=True):
            with torch.no_grad(), supernet.mask(*candidate):
                assert torch.equal(logits, supernet(images, batch=3))


def test_masks_of_a_reduction_edge_do_not_compute_what_stands_before_it_again():
    """Of eight cells the two before the first reduction cell, and in that one the edges that start before the node."""
    supernet, calls = make_supernet("darts", layers=8, channels=2), []
    edge = SPACES["darts"].edges.index((1, 4))
    for layer in (0, 1, 2):
        for number, mixed in enumerate(supernet.skeleton.cells[layer].edges):
            mixed.register_forward_hook(lambda *_, place=(layer, number): calls.append(place))
    for _ in supernet.without([Candidate("reduce", edge, operation) for operation in range(7)], make_images()[0]):
        pass
    counts = {place: calls.count(place) for place in calls}
    assert all(counts[layer, number] == 1 for layer in (0, 1) for number in range(14))
    repeated = [number for number in range(14) if counts[2, number] == 7]
    assert repeated == [
        number for number, (source, _) in enumerate(SPACES["darts"].edges) if number == edge or source == 4
    ]
    assert sum(counts[2, number] for number in range(14)) == 12 + 2 * 7


def test_the_state_of_a_supernet_includes_its_presence():
    supernet, other = make_supernet(seed=0), make_supernet(seed=1)
    supernet.decide("normal", 3, 1)
    supernet.prune("reduce", 7)
    other.load_state_dict(supernet.state_dict())
    images, _ = make_images()
    assert other.presence == supernet.presence
    assert torch.equal(other(images), supernet(images))


def test_a_space_is_data_also_for_cells_that_nobody_published():
    space = Space(
        "mine",
        "darts",
        edges=((0, 2), (1, 2), (2, 3)),
        operations=dict.fromkeys(("normal", "reduce"), (("noise", "skip_connect"),) * 3),
        topology=True,
        none_allowed=False,
    )
    supernet = Supernet(space, 3, 4, 3, 1)
    assert supernet(torch.randn(4, 1, 8, 8)).shape == (4, 3)


def test_a_cell_compiles_as_one_graph():
    """No read-back from the device and no graph break in the forward pass of a cell."""
    supernet = Supernet(SPACES["darts"], 3, 4, 3, 1)
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    cell = torch.compile(supernet.skeleton.cells[0], backend=count, fullgraph=True)
    x = torch.randn(4, 12, 8, 8)
    arguments = (x, x), supernet.weights(), supernet.presence
    torch.testing.assert_close(cell(*arguments), supernet.skeleton.cells[0](*arguments))
    assert len(graphs) == 1


def test_the_forward_pass_runs_without_data_on_the_meta_device():
    """Nothing is read back from the device: on `meta` there is nothing to read."""
    with torch.device("meta"):
        supernet = Supernet(SPACES["darts"], 3, 4, 3, 1)
        assert supernet(torch.empty(4, 1, 8, 8)).shape == (4, 3)
