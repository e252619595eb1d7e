"""Proposition 1 (Sec. 3.2, A.4) as properties of random samples, and the gap of Fig. 3."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from genotypes import Space
from ptnas import group, proposition_1, proposition_1_simplified, skip_gap, standardize
from tests.conftest import make_supernet

seeds = st.integers(0, 10_000)


def variance(theta_conv, o, x, m):
    """Returns Var(θ_conv · o_e(x_e) + θ_skip · x_e - m*), where the weights sum to one (Eq. 5-6)."""
    return (theta_conv * o + (1 - theta_conv) * x - m).var(correction=0).item()


def draw_samples(seed, count=200):
    """Draws correlated samples of o_e(x_e), x_e and m*."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(3, 3, generator=generator, dtype=torch.double)
    return list((mixing @ torch.randn(3, count, generator=generator, dtype=torch.double)) + mixing[:1].T)


@given(seeds, st.floats(-5, 5))
def test_proposition_1_minimises_the_variance_among_weights_that_sum_to_one(seed, other):
    o, x, m = draw_samples(seed)
    optimum = proposition_1(o, x, m)
    assert optimum.theta_conv + optimum.theta_skip == pytest.approx(1)
    least = variance(optimum.theta_conv, o, x, m)
    assert least <= variance(other, o, x, m) + 1e-9
    for step in (-1e-2, 1e-2):
        assert least < variance(optimum.theta_conv + step, o, x, m)


@given(seeds)
def test_alpha_is_the_logarithm_of_the_optimal_weights(seed):
    o, x, m = draw_samples(seed)
    optimum = proposition_1(o, x, m)
    assume(optimum.reachable)
    softmaxed = torch.softmax(torch.tensor([optimum.alpha_conv, optimum.alpha_skip]), 0)
    assert softmaxed.tolist() == pytest.approx([optimum.theta_conv, optimum.theta_skip], rel=1e-4, abs=1e-6)
    # Eq. 18-19: the difference of the two α is that of the logarithms of (variance - covariance)
    skip, conv = x - m - (x - m).mean(), o - m - (o - m).mean()
    cov = (skip * conv).mean()
    difference = math.log((skip.square().mean() - cov) / (conv.square().mean() - cov))
    assert optimum.alpha_conv - optimum.alpha_skip == pytest.approx(difference)


@given(seeds)
def test_an_optimum_outside_the_interval_has_its_alpha_at_the_nearer_end(seed):
    o, x, m = draw_samples(seed)
    optimum = proposition_1(o, x, m)
    assume(not optimum.reachable)
    end = 1.0 if optimum.theta_conv > 1 else 0.0
    assert (optimum.alpha_conv, optimum.alpha_skip) == ((0.0, -math.inf) if end else (-math.inf, 0.0))
    least = variance(end, o, x, m)
    assert all(least <= variance(share / 20, o, x, m) + 1e-9 for share in range(21)), "the best that softmax approaches"


def test_both_kinds_of_optimum_occur_among_the_samples_of_these_tests():
    reachable = [proposition_1(*draw_samples(seed)).reachable for seed in range(50)]
    assert {True, False} == set(reachable)


@given(seeds, st.floats(0.1, 5), st.floats(0.1, 5))
def test_without_covariance_it_is_equations_3_and_4(seed, a, b):
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(100, 4, generator=generator, dtype=torch.double) + 1).Q
    centred = torch.linalg.qr(basis - basis.mean(0)).Q  # orthogonal columns with mean zero
    m = torch.randn(100, generator=generator, dtype=torch.double)
    o, x = m + a * centred[:, 0], m + b * centred[:, 1]
    optimum, (conv, skip) = proposition_1(o, x, m), proposition_1_simplified(o, x, m)
    assert conv == pytest.approx((x - m).var(correction=0).item())
    assert skip == pytest.approx((o - m).var(correction=0).item())
    assert [optimum.theta_conv, optimum.theta_skip] == pytest.approx([conv / (conv + skip), skip / (conv + skip)])


@given(seeds)
def test_the_closer_branch_in_variance_gets_the_larger_alpha(seed):
    o, x, m = draw_samples(seed)
    optimum, (conv, skip) = proposition_1(o, x, m), proposition_1_simplified(o, x, m)
    assume(abs(conv - skip) > 1e-9)
    assert (optimum.alpha_skip > optimum.alpha_conv) == (skip > conv)


@given(seeds, st.floats(-3, 3))
def test_branches_that_differ_by_a_constant_are_equally_good(seed, constant):
    o, _, m = draw_samples(seed)
    optimum = proposition_1(o, o + constant, m)  # Z = 0
    assert (optimum.theta_conv, optimum.theta_skip) == (0.5, 0.5)
    assert optimum.alpha_conv == optimum.alpha_skip == math.log(0.5)
    assert variance(0.5, o, o + constant, m) == pytest.approx(variance(4.0, o, o + constant, m), abs=1e-9)


@given(seeds, st.integers(2, 5))
def test_grouped_operations_add_to_the_mixture_what_they_added_one_by_one(seed, count):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(count, 4, 5, generator=generator, dtype=torch.double)
    weights = torch.rand(count, generator=generator, dtype=torch.double) + 0.01
    one_by_one = sum(weight * output for weight, output in zip(weights, outputs, strict=True))
    torch.testing.assert_close(weights.sum() * group(outputs, weights), one_by_one)


@given(seeds)
def test_standardised_samples_have_mean_zero_and_variance_one(seed):
    samples = standardize(100 * draw_samples(seed)[2] + 7)
    assert samples.mean().item() == pytest.approx(0, abs=1e-9)
    assert samples.var(correction=0).item() == pytest.approx(1)
    assert not standardize(torch.full((5,), 3.0)).any()


@pytest.mark.parametrize("shapes", [((3,), (3,), (4,)), ((1,), (1,), (1,)), ((2, 3), (3, 2), (2, 3))])
def test_samples_of_different_shapes_or_a_single_one_are_refused(shapes):
    with pytest.raises(ValueError, match="samples of one shape"):
        proposition_1(*(torch.ones(shape) for shape in shapes))


def test_the_gap_of_figure_3_counts_edges_with_skip_and_convolutions_only():
    rows = (
        ("skip_connect", "sep_conv_3x3", "dil_conv_3x3"),
        ("skip_connect", "none", "max_pool_3x3"),
        ("none", "sep_conv_3x3", "noise"),
    )
    edges, operations = ((0, 2), (1, 2), (2, 3)), {"normal": rows, "reduce": (*rows[1:], rows[1])}
    supernet = make_supernet(Space("mine", "darts", edges, operations, topology=True, none_allowed=False))
    row = torch.softmax(supernet.alpha["normal"][0], 0).tolist()
    assert skip_gap(supernet) == pytest.approx(row[0] - (row[1] + row[2]) / 2)
    assert skip_gap(make_supernet("s4")) is None, "its edges have no skip connection"
