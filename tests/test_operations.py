"""The operations that an edge can choose from."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from genotypes import OPERATIONS, is_convolution
from ptnas import Noise, SettingError, build_operation, factorized_reduce, number_noise_operations, supernet_norm


@given(
    name=st.sampled_from(sorted(OPERATIONS)),
    channels=st.integers(1, 6),
    stride=st.sampled_from((1, 2)),
    size=st.tuples(st.integers(2, 13), st.integers(2, 13)),
    norm=st.sampled_from((supernet_norm, nn.BatchNorm2d)),
)
def test_every_operation_keeps_the_right_shape(name, channels, stride, size, norm):
    operation = build_operation(name, channels, stride, norm)
    out = operation(torch.randn(3, channels, *size))
    assert out.shape == (3, channels, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
    has_weights = any(parameter.dim() == 4 for parameter in operation.parameters())
    assert has_weights == (is_convolution(name) or (name == "skip_connect" and stride == 2))


def test_none_is_zero_and_skip_connect_is_the_identity():
    x = torch.randn(2, 3, 8, 8)
    assert not build_operation("none", 3, 1, supernet_norm)(x).any()
    assert build_operation("skip_connect", 3, 1, supernet_norm)(x) is x


def test_noise_is_standard_normal_whatever_the_input():
    draw = Noise(stride=2)(1e6 * torch.ones(64, 8, 9, 9))
    assert draw.shape == (64, 8, 5, 5)
    assert abs(draw.mean()) < 0.05
    assert abs(draw.std() - 1) < 0.05


def test_an_unknown_operation_is_a_key_error():
    with pytest.raises(KeyError):
        build_operation("sep_conv_9x9", 3, 1, supernet_norm)


def test_on_even_maps_factorized_reduce_is_that_of_darts():
    reduce, x = factorized_reduce(4, 6, lambda channels: nn.Identity()), torch.randn(2, 4, 8, 8)
    straight = F.conv2d(F.relu(x), reduce[1].straight.weight, stride=2)
    shifted = F.conv2d(F.relu(x)[:, :, 1:, 1:], reduce[1].shifted.weight, stride=2)
    torch.testing.assert_close(reduce(x), torch.cat([straight, shifted], dim=1))


def test_more_noise_operations_than_have_seeds_of_their_own_are_refused():
    network = nn.ModuleList(build_operation("noise", 4, 1, nn.BatchNorm2d) for _ in range(1025))
    assert len(number_noise_operations(network[:1024])) == 1024
    with pytest.raises(SettingError, match="1025 `noise` operations"):
        number_noise_operations(network)
