"""The discrete network and its training."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from genotypes import PUBLISHED, SPACES, Arch, Genotype
from ptnas import AuxiliaryHead, Network, RetrainSettings, Training, retrain
from ptnas import drop_path as drop
from tests.conftest import Batches, load_script, make_images, make_supernet
from tests.test_search import flat
from tests.test_steps import make_judge, play, take_steps

RETRAIN = load_script("retrain")

PARAMETERS = {  # published with the cells: 20 cells, C=36, 10 classes, without the auxiliary head
    "DARTS_V2": 3_349_342,
    "DARTS_PT_S1_2": 2_022_454,
    "DARTS_PT_S2_1": 3_092_518,
    "PT_FIXED_S3_2": 3_812_230,
    "DARTS_PT_S4_C100_1": 4_701_718,
    "DARTS_PT_DARTS_3": 3_328_174,
}


def test_published_networks_have_their_published_number_of_parameters():
    counts = {name: RETRAIN.count_parameters(Network(PUBLISHED[name], 20, 36, 10)) for name in PARAMETERS}
    assert counts == PARAMETERS
    for operation, parameters in (("nor_conv_3x3", 1_531_546), ("none", 73_306)):
        assert RETRAIN.count_parameters(Network(Arch((operation,) * 6), 5, 16, 10)) == parameters


def test_the_imagenet_form_of_darts_has_its_published_size():
    network = Network(PUBLISHED["DARTS_V2"], 14, 48, 1000, form="imagenet")
    assert RETRAIN.count_parameters(network) == 4_718_752
    millions = RETRAIN.count_multiply_adds(network, 3, 224) / 1e6
    assert 520 < millions < 600, "the mobile setting: under 600 million"


SIZES = {"cifar": (8, 11, 32), "imagenet": (32, 97)}
NETWORKS = [
    *((PUBLISHED[name], form, size) for name in ("NASNET_A", "DARTS_V2") for form in SIZES for size in SIZES[form]),
    *((Arch((name,) * 6), "cifar", size) for name in SPACES["nb201"].operations["cell"][0] for size in (8, 11)),
]


@pytest.mark.parametrize(("architecture", "form", "size"), NETWORKS)
def test_discrete_networks_of_any_cell_take_images_of_any_size(architecture, form, size):
    network = Network(architecture, 3, 4, 7, 1, form, auxiliary=True)
    images = torch.randn(3, 1, size, size)
    logits, auxiliary = network(images, drop_probability=0.3)
    assert logits.shape == network.eval()(images).shape == (3, 7)
    assert auxiliary is None if isinstance(architecture, Arch) else auxiliary.shape == (3, 7)


@pytest.mark.parametrize(("size", "stride"), [(8, 3), (7, 2)])
def test_the_auxiliary_head_pools_as_darts_does_on_its_map_sizes(size, stride):
    head, x = AuxiliaryHead(5, 10, norm_last=True).eval(), torch.randn(4, 5, size, size)
    pooled = F.avg_pool2d(F.relu(x), 5, stride=stride, padding=0, count_include_pad=False)
    torch.testing.assert_close(head(x), head.classifier(head.features(pooled).flatten(1)))


@pytest.mark.parametrize("dtype", [torch.float, torch.bfloat16])
def test_drop_path_drops_whole_images_and_keeps_the_mean(dtype):
    torch.manual_seed(0)
    dropped = drop(torch.ones(200_000, 2, 1, 2, dtype=dtype), 1 / 1024)
    kept = dropped[:, 0, 0, 0] > 0
    assert torch.equal(dropped, (kept / (1 - 1 / 1024)).to(dtype)[:, None, None, None].expand_as(dropped))
    assert 100 < (~kept).sum() < 300, "195 are to be expected; draws in bfloat16 would drop 390"


def test_drop_path_spares_identities():
    before, last = torch.randn(2, 8, 12, 8, 8)
    for other, spared in (("skip_connect", True), ("sep_conv_3x3", False)):
        pairs = ((other, 0), ("skip_connect", 1))
        cell = Network(Genotype(pairs, (2,), pairs, (2,)), 3, 4, 3, 1).skeleton.cells[0]
        assert torch.equal(cell((before, last), 0.9), cell((before, last), 0.0)) == spared


def test_the_cells_of_a_network_compute_what_the_genotype_says():
    genotype = Genotype(
        (("max_pool_3x3", 1), ("skip_connect", 0), ("avg_pool_3x3", 2), ("none", 1)), (3,),
        (("skip_connect", 0), ("skip_connect", 1)), (2,),
    )  # fmt: skip
    cell = Network(genotype, 3, 4, 3, 1).skeleton.cells[0]
    before, last = torch.randn(2, 6, 12, 8, 8)
    node = F.max_pool2d(cell.preprocess[1](last), 3, 1, 1) + cell.preprocess[0](before)
    wanted = F.avg_pool2d(node, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(cell((before, last), 0.0), wanted)


def test_a_discrete_network_keeps_running_statistics_and_affine_norms():
    network, (images, _) = Network(PUBLISHED["DARTS_V2"], 3, 4, 3, 1), make_images(dtype=torch.float)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(norm.affine and norm.track_running_stats for norm in norms)
    network(images)
    alone = network.eval()(images[:2])
    torch.testing.assert_close(network(images)[:2], alone)  # whatever its neighbours are


def copy_weights(target, source):
    """Copies the weights of all convolutions and linear layers, and of the norms that have some in both."""
    kinds = nn.Conv2d, nn.Linear, nn.BatchNorm2d
    pairs = [[module for module in each.modules() if isinstance(module, kinds)] for each in (target, source)]
    for ours, theirs in zip(*pairs, strict=True):
        if list(theirs.parameters()):
            ours.load_state_dict(theirs.state_dict(), strict=False)


@pytest.mark.parametrize("space", ["s2", "s3", "nb201"])
def test_a_supernet_with_every_edge_decided_equals_the_discrete_network_with_the_same_weights(space):
    layers, data = 1 if space == "nb201" else 3, Batches(*make_images(8))
    supernet = make_supernet(space, layers)
    play(make_judge(supernet, data, criterion="random"))
    genotype = supernet.genotype()
    network = Network(genotype, layers, 4, 3, 1).double()
    for own, cell in zip(network.skeleton.cells, supernet.skeleton.cells, strict=True):
        copy_weights(own.preprocess, cell.preprocess)
        plan = genotype.cells[cell.cell_type].operations
        for operation, (name, source, node) in zip(own.operations, plan, strict=True):
            edge = supernet.space.edges.index((source, node))
            index = supernet.space.operations[cell.cell_type][edge].index(name)
            copy_weights(operation, cell.edges[edge].operations[index])
    for part in ("stem", "classifier", *(("residual_blocks", "head") if space == "nb201" else ())):
        copy_weights(getattr(network.skeleton, part), getattr(supernet.skeleton, part))
    torch.testing.assert_close(network(data.images)[0], supernet(data.images))


# ---- retraining


def test_epochs_of_retraining_are_steps_of_sgd_on_the_loss_by_hand():
    """Cross-entropy with smoothed labels, and 0.4 of that of the auxiliary head, under drop-path that grows."""
    data, settings = Batches(*make_images(12)), RetrainSettings(epochs=3, batch_size=12, label_smoothing=0.1)
    network = Network(PUBLISHED["DARTS_V2"], 3, 4, 3, 1, auxiliary=True).double()
    steps, w, buffer = retrain(Training(network, settings), data, data), list(network.parameters()), 0
    for epoch in range(3):
        (images, labels), twin = next(data.batches(12, epoch)), copy.deepcopy(network).train()
        torch.manual_seed(epoch)
        outputs = twin(images, epoch, 0.2 * epoch / 3)
        smooth = 0.9 * F.one_hot(labels, 3) + 0.1 / 3
        loss, auxiliary = (-(smooth * F.log_softmax(each, 1)).sum(1).mean() for each in outputs)
        x, gradient = flat(w), flat(torch.autograd.grad(loss + 0.4 * auxiliary, list(twin.parameters())))
        gradient *= (5 / (gradient.norm() + 1e-6)).clamp(max=1)
        buffer = 0.9 * buffer + gradient + 3e-4 * x
        torch.manual_seed(epoch)
        next(steps)
        torch.testing.assert_close(flat(w), x - 0.0125 * (1 + math.cos(math.pi * epoch / 3)) * buffer)


def test_the_last_record_tells_accuracy_and_images_by_class_and_the_result_their_mean():
    images, labels = make_images(40, classes=4, dtype=torch.float)
    keep = (labels > 0) | (torch.arange(40) < 8)  # class 0 has two images
    data, network = Batches(images[keep], labels[keep]), Network(PUBLISHED["DARTS_V1"], 3, 4, 4, 1)
    first, last = take_steps(retrain(Training(network, RetrainSettings(epochs=2, lr=0.1)), data, data))
    assert "class_accuracy" not in first
    assert last["class_images"] == [2, 10, 10, 10]
    right = (network(data.images).argmax(1) == data.labels).float()
    wanted = [100 * right[data.labels == label].mean().item() for label in range(4)]
    assert last["class_accuracy"] == pytest.approx(wanted)
    mean = f"(accuracy {last['test_accuracy']:.2f}%, mean by class {sum(wanted) / 4:.2f}%)"
    assert RETRAIN.describe_result(last).endswith(f"% {mean}")
    even = last | {"class_images": [10, 10, 10, 10]}
    assert RETRAIN.describe_result(even) == f"test error {last['test_error']:.2f}%"


# ---- export


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("noisy", [False, True])
def test_a_network_is_exported_with_a_free_batch_size(noisy):
    genotype = PUBLISHED["DARTS_V2"]
    if noisy:
        genotype = genotype._replace(normal=(("noise", 0), *genotype.normal[1:]), reduce=(("noise", 1),) * 8)
    network = Network(genotype, 3, 4, 3, 1, auxiliary=True).eval()
    batch, sizes = make_images(4, dtype=torch.float)[0], {0: torch.export.Dim("batch", max=1024)}
    exported = torch.export.export(network, (batch,), dynamic_shapes=(sizes,)).module()
    traced = torch.jit.trace(network, (batch,), check_trace=not noisy)
    for count in (2, 9):
        images = make_images(count, dtype=torch.float, seed=1)[0]
        for each in (exported, traced):
            logits = each(images)
            if noisy:
                assert (logits.shape, logits.isfinite().all().item()) == ((count, 3), True)
            else:
                torch.testing.assert_close(logits, network(images))


def test_imagenet_retraining_reports_top_5_and_decays_exponentially():
    data = Batches(*make_images(24, size=32, classes=8, dtype=torch.float))
    settings = RetrainSettings(form="imagenet", epochs=2, lr=0.1, decay="exponential", label_smoothing=0.1)
    network = Network(PUBLISHED["DARTS_V1"], 3, 4, 8, 1, form="imagenet", auxiliary=True)
    records = take_steps(retrain(Training(network, settings), data, data))
    assert [record["lr"] for record in records] == pytest.approx([0.1, 0.097])
    assert 0 <= records[-1]["test_error_top5"] <= records[-1]["test_error"]
