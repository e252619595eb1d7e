"""How networks are computed: again in the backward pass, in bfloat16, compiled; what comes out stays the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

import ptnas
from genotypes import PUBLISHED, Arch
from ptnas import Bilevel, Computing, Network, SearchSettings, evaluate
from tests.conftest import Batches, make_images, make_supernet

BATCH = make_images(8)


def steps(supernet, computing, order=1, count=2):
    """What some steps of α and w make of it."""
    supernet.skeleton.computing = computing
    bilevel = Bilevel(supernet, SearchSettings(order=order), lr=0.1)
    for _ in range(count):
        bilevel.alpha_step(BATCH, BATCH)
        bilevel.w_step(BATCH)
    return list(supernet.parameters())


@pytest.mark.parametrize(("space", "order"), [("s4", 1), ("darts", 1), ("nb201", 1), ("s2", 2)])
def test_computing_cells_again_changes_no_bit_of_a_search(space, order):
    kept = steps(make_supernet(space), Computing(), order)
    again = steps(make_supernet(space), Computing(low_memory=True), order)
    assert all(torch.equal(*pair) for pair in zip(kept, again, strict=True))


def test_computing_cells_again_keeps_less_for_the_backward_pass():
    def kept(computing):
        """Bytes that the forward pass keeps in the graph, each storage once."""
        supernet, storages = make_supernet("darts", layers=8), {}
        supernet.skeleton.computing = computing

        def pack(x):
            storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            supernet(BATCH[0])
        return sum(storages.values())

    assert kept(Computing(low_memory=True)) < 0.2 * kept(Computing())


@pytest.mark.parametrize("architecture", [PUBLISHED["DARTS_V2"], Arch(("nor_conv_3x3",) * 6)])
def test_computing_cells_again_changes_no_bit_of_a_network_nor_its_running_statistics(architecture):
    torch.manual_seed(0)
    network = Network(architecture, 3, 4, 3, 1).double().train()
    other = copy.deepcopy(network)
    other.skeleton.computing = Computing(low_memory=True)
    for each in (network, other):
        torch.manual_seed(1)  # of drop-path
        F.cross_entropy(each(BATCH[0], drop_path=0.5)[0], BATCH[1]).backward()
    for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)
    for name, value in network.state_dict().items():
        if torch.is_tensor(value):
            assert torch.equal(value, other.state_dict()[name]), name
    assert any("running_mean" in name and value.any() for name, value in network.state_dict().items())


@pytest.mark.parametrize("space", ["darts", "nb201", "s4"])
def test_bfloat16_stays_near_and_logits_keep_their_precision(space):
    supernet = make_supernet(space).float()
    images = BATCH[0].float()
    exact = supernet(images)
    supernet.skeleton.computing = Computing(amp=True)
    seen = []
    supernet.skeleton.cells[0].register_forward_hook(lambda *args: seen.append(args[-1].dtype))
    near = supernet(images)
    assert seen == [torch.bfloat16]
    assert near.dtype == torch.float32
    assert 0 < (near - exact).abs().max() < 0.1 * exact.abs().max()
    loss = F.cross_entropy(near, BATCH[1])
    assert all(gradient.dtype == torch.float32 for gradient in torch.autograd.grad(loss, supernet.alpha_parameters()))


def test_masks_in_bfloat16_are_forward_passes_in_bfloat16():
    supernet = make_supernet("s2").float()
    supernet.skeleton.computing = Computing(amp=True)
    candidates = [ptnas.Candidate("reduce", 3, operation) for operation in range(2)]
    for candidate, logits in zip(candidates, supernet.without(candidates, BATCH[0].float()), strict=True):
        with torch.no_grad(), supernet.mask(*candidate):
            assert torch.equal(logits, supernet(BATCH[0].float()))


def test_in_bfloat16_the_auxiliary_head_and_the_choice_of_paths_keep_their_precision():
    torch.manual_seed(0)
    network = Network(PUBLISHED["DARTS_V2"], 3, 4, 3, 1, auxiliary=True).train()
    network.skeleton.computing = Computing(amp=True)
    logits, auxiliary = network(BATCH[0].float(), drop_path=0.2)
    assert logits.dtype == auxiliary.dtype == torch.float32
    dropped = ptnas._drop_path(torch.ones(200_000, 1, 1, 1, dtype=torch.bfloat16), 1 / 1024) == 0
    assert 100 < dropped.sum() < 300, "195 are to be expected, and draws in bfloat16 would drop 390"


@pytest.fixture
def compiled(monkeypatch):
    """The graphs that were compiled, by the backend that differentiates them and runs them as they are."""
    graphs, backends = [], torch._dynamo.lookup_backend("aot_eager_decomp_partition")

    def backend(graph, inputs):
        graphs.append(graph)
        return backends(graph, inputs)

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(torch, "compile", lambda function, compiler=torch.compile: compiler(function, backend=backend))
    monkeypatch.setattr(ptnas.Noise, "forward", ptnas.Noise.forward)  # to be restored
    ptnas._compiled.cache_clear()
    yield graphs
    ptnas._compiled.cache_clear()


def test_compiled_cells_train_alike_and_are_not_compiled_for_evaluation(compiled):
    plain, supernet = make_supernet("s2"), make_supernet("s2")
    expected = steps(plain, Computing())
    for mine, theirs in zip(expected, steps(supernet, Computing(compile=True)), strict=True):
        torch.testing.assert_close(mine, theirs)
    count = len(compiled)
    assert 2 <= count <= 3, "the normal cell and the two reduction cells, without a break"
    steps(make_supernet("s2"), Computing(compile=True, low_memory=True))
    assert len(compiled) == count
    evaluate(supernet, Batches(*BATCH), 8)
    assert len(compiled) == count
    supernet.decide("normal", 0, 1)
    steps(supernet, Computing(compile=True), count=1)
    assert len(compiled) > count


def test_compiled_networks_train_alike(compiled):
    torch.manual_seed(0)
    network = Network(PUBLISHED["DARTS_V2"], 3, 4, 3, 1).double().train()
    other = copy.deepcopy(network)
    other.skeleton.computing = Computing(compile=True, low_memory=True)
    for each in (network, other):
        F.cross_entropy(each(BATCH[0])[0], BATCH[1]).backward()
    assert compiled
    for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    for mine, theirs in zip(network.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_noise_is_no_reason_to_compile_again(compiled):
    expected = steps(make_supernet("s4"), Computing(), count=1)
    supernet = make_supernet("s4")
    for mine, theirs in zip(expected, steps(supernet, Computing(compile=True), count=1), strict=True):
        torch.testing.assert_close(mine, theirs)
    count = len(compiled)
    steps(supernet, Computing(compile=True))
    assert len(compiled) == count


@pytest.mark.parametrize("space", ["s1", "nb201"])
def test_a_cell_is_one_graph_whatever_its_operations(compiled, space):
    supernet = make_supernet(space)
    supernet.skeleton.computing = Computing(compile=True)
    supernet(BATCH[0]).sum().backward()
    assert 2 <= len(compiled) <= 3, "by width, or by cell type and width"
    assert not torch._dynamo.utils.counters["graph_break"]
