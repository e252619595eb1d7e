"""Operations and the discrete network."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from genotypes import OPERATIONS, PUBLISHED, SPACES, Arch, Genotype, is_convolution
from ptnas import (
    AuxiliaryHead,
    FactorizedReduce,
    Network,
    build_operation,
    count_multiply_adds,
    count_parameters,
    supernet_norm,
)
from ptnas import _drop_path as drop_path
from tests.conftest import make_images


@given(
    name=st.sampled_from(sorted(OPERATIONS)),
    channels=st.integers(1, 6),
    stride=st.sampled_from((1, 2)),
    height=st.integers(2, 13),
    width=st.integers(2, 13),
    norm=st.sampled_from((supernet_norm, nn.BatchNorm2d)),
)
def test_every_operation_keeps_the_right_shape(name, channels, stride, height, width, norm):
    operation = build_operation(name, channels, stride, norm)
    out = operation(torch.randn(3, channels, height, width))
    assert out.shape == (3, channels, math.ceil(height / stride), math.ceil(width / stride))
    has_weights = any(parameter.dim() == 4 for parameter in operation.parameters())
    assert has_weights == (is_convolution(name) or (name == "skip_connect" and stride == 2))


def test_none_is_zero_and_skip_connect_is_the_identity():
    x = torch.randn(2, 3, 8, 8)
    assert not build_operation("none", 3, 1, supernet_norm)(x).any()
    assert build_operation("skip_connect", 3, 1, supernet_norm)(x) is x


def test_an_unknown_operation_is_a_key_error():
    with pytest.raises(KeyError):
        build_operation("sep_conv_9x9", 3, 1, supernet_norm)


def test_on_even_maps_factorized_reduce_is_that_of_darts():
    reduce = FactorizedReduce(4, 6, lambda channels: nn.Identity())
    x = torch.randn(2, 4, 8, 8)
    active = F.relu(x)
    wanted = torch.cat(
        [
            F.conv2d(active, reduce.straight.weight, stride=2),
            F.conv2d(active[:, :, 1:, 1:], reduce.shifted.weight, stride=2),
        ],
        dim=1,
    )
    torch.testing.assert_close(reduce(x), wanted)


# Parameter counts that were published with the cells: 20 cells, C=36, 10 classes, without the auxiliary head.
PARAMETERS = {
    "DARTS_V2": 3_349_342,
    "DARTS_PT_S1_2": 2_022_454,
    "DARTS_PT_S2_1": 3_092_518,
    "PT_FIXED_S3_2": 3_812_230,
    "DARTS_PT_S4_C100_1": 4_701_718,
    "DARTS_PT_DARTS_3": 3_328_174,
}


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_published_networks_have_their_published_number_of_parameters(name):
    assert count_parameters(Network(PUBLISHED[name], 20, 36, 10)) == PARAMETERS[name]


def test_the_imagenet_form_of_darts_has_its_published_size():
    network = Network(PUBLISHED["DARTS_V2"], 14, 48, 1000, form="imagenet")
    assert count_parameters(network) == 4_718_752
    assert round(count_multiply_adds(network, 3, 224) / 1e6) in range(520, 600), "the mobile setting: under 600 million"


@pytest.mark.parametrize(("operation", "parameters"), [("nor_conv_3x3", 1_531_546), ("none", 73_306)])
def test_networks_of_nas_bench_201_have_their_published_number_of_parameters(operation, parameters):
    assert count_parameters(Network(Arch((operation,) * 6), 5, 16, 10)) == parameters


@pytest.mark.parametrize("operation", SPACES["nb201"].operations["cell"][0])
@pytest.mark.parametrize("size", [8, 11, 16])
def test_networks_of_nas_bench_201_take_images_of_any_size(operation, size):
    network = Network(Arch((operation,) * 6), 2, 4, 7, image_channels=1)
    images = torch.randn(3, 1, size, size)
    logits, auxiliary = network(images, drop_path=0.3)
    assert logits.shape == (3, 7)
    assert auxiliary is None
    assert network.eval()(images).shape == (3, 7)


def test_the_cell_of_nas_bench_201_computes_what_the_text_says():
    text = "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|skip_connect~1|nor_conv_1x1~2|"
    cell = Network(Arch.from_text(text), 1, 4, 3, 1).skeleton.cells[0]
    x = torch.randn(5, 4, 8, 8)
    three, _, _, _, _, one = cell.operations
    wanted = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) + three(x) + one(x)
    torch.testing.assert_close(cell((x,), 0.0), wanted)
    assert isinstance(three[1], nn.Conv2d) and three[1].kernel_size == (3, 3) and one[1].kernel_size == (1, 1)


@pytest.mark.parametrize("name", ["NASNET_A", "AMOEBANET_A", "DARTS_V2"])
@pytest.mark.parametrize(
    ("form", "size"), [("cifar", 8), ("cifar", 11), ("cifar", 32), ("imagenet", 32), ("imagenet", 97)]
)
def test_discrete_networks_of_any_cell_take_images_of_any_size(name, form, size):
    network = Network(PUBLISHED[name], 5, 4, 7, image_channels=1, form=form, auxiliary=True)
    images = torch.randn(3, 1, size, size)
    logits, auxiliary = network(images, drop_path=0.3)
    assert logits.shape == auxiliary.shape == (3, 7)
    assert network.eval()(images).shape == (3, 7)


def test_without_auxiliary_head_there_are_no_auxiliary_logits():
    assert Network(PUBLISHED["DARTS_V1"], 3, 4, 7)(torch.randn(2, 3, 8, 8))[1] is None


@pytest.mark.parametrize(("size", "stride"), [(8, 3), (7, 2)])
def test_the_auxiliary_head_pools_as_darts_does_on_its_map_sizes(size, stride):
    head = AuxiliaryHead(5, 10, norm_last=True).eval()
    x = torch.randn(4, 5, size, size)
    pooled = F.avg_pool2d(F.relu(x), 5, stride=stride, padding=0, count_include_pad=False)
    torch.testing.assert_close(head(x), head.classifier(head.features(pooled).flatten(1)))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 10, 11, 16])
def test_the_auxiliary_head_takes_maps_of_any_size(size):
    assert AuxiliaryHead(5, 10, norm_last=False)(torch.randn(4, 5, size, size)).shape == (4, 10)


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(4000, 2, 3, 3), 0.25)
    kept = dropped[:, 0, 0, 0] > 0
    assert torch.equal(dropped, kept[:, None, None, None] * torch.full((4000, 2, 3, 3), 1 / 0.75))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)


def test_drop_path_spares_identities():
    pairs = (("skip_connect", 0), ("skip_connect", 1))
    network = Network(Genotype(pairs, (2,), pairs, (2,)), 3, 4, 3, 1)
    cell = network.skeleton.cells[0]
    before, last = torch.randn(2, 8, 12, 8, 8)
    assert torch.equal(cell((before, last), 0.9), cell((before, last), 0.0))
    parametric = (("sep_conv_3x3", 0), ("skip_connect", 1))
    other = Network(Genotype(parametric, (2,), parametric, (2,)), 3, 4, 3, 1).skeleton.cells[0]
    assert not torch.equal(other((before, last), 0.9), other((before, last), 0.0))


def test_the_cells_of_a_network_compute_what_the_genotype_says():
    genotype = Genotype(
        (("max_pool_3x3", 1), ("skip_connect", 0), ("avg_pool_3x3", 2), ("none", 1)), (3,),
        (("skip_connect", 0), ("skip_connect", 1)), (2,),
    )  # fmt: skip
    cell = Network(genotype, 3, 4, 3, 1).skeleton.cells[0]
    before, last = torch.randn(2, 6, 12, 8, 8)
    first, second = cell.preprocess[0](before), cell.preprocess[1](last)
    node = F.max_pool2d(second, 3, 1, 1) + first
    wanted = F.avg_pool2d(node, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(cell((before, last), 0.0), wanted)


def test_a_discrete_network_keeps_running_statistics_and_affine_norms():
    network = Network(PUBLISHED["DARTS_V2"], 3, 4, 3, 1)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(norm.affine and norm.track_running_stats for norm in norms)
    images, _ = make_images(dtype=torch.float)
    network(images)
    alone = network.eval()(images[:2])
    torch.testing.assert_close(network(images)[:2], alone)  # whatever its neighbours are
