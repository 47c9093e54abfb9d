from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstbench.networks import build
from rstbench.tickets.mask import kept_units, maskable
from rstbench.tickets.ratios import kept_by_layer, layer_ratios
from tests.networks.specs import spec

SIZES = st.lists(st.integers(1, 10**7), min_size=1, max_size=30)
RATIOS = st.floats(1e-3, 1.0)
POWERS = st.floats(0.0, 1.0)


@settings(deadline=None)
@given(sizes=SIZES, ratio=RATIOS, power=POWERS)
def test_the_total_is_met_and_no_layer_is_more_than_full(sizes: list[int], ratio: float, power: float) -> None:
    found = layer_ratios(sizes, ratio, power)
    assert all(0 < each <= 1 for each in found)
    kept = math.fsum(each * size for each, size in zip(found, sizes, strict=True))
    assert kept == pytest.approx(ratio * sum(sizes), rel=1e-9)


@settings(deadline=None)
@given(sizes=SIZES, ratio=RATIOS, power=POWERS)
def test_layers_that_are_not_full_follow_one_law(sizes: list[int], ratio: float, power: float) -> None:
    found = layer_ratios(sizes, ratio, power)
    laws = [each / size ** (power - 1) for each, size in zip(found, sizes, strict=True) if each < 1]
    assert not laws or max(laws) == pytest.approx(min(laws), rel=1e-9)
    # A full layer would be more than full under the law of the others.
    full = [size for each, size in zip(found, sizes, strict=True) if each == 1]
    assert not laws or all(laws[0] * size ** (power - 1) >= 1 - 1e-9 for size in full)


@settings(deadline=None)
@given(sizes=SIZES, power=POWERS, low=st.integers(1, 99), high=st.integers(1, 99))
def test_a_larger_ratio_is_larger_in_every_layer(sizes: list[int], power: float, low: int, high: int) -> None:
    smaller, larger = layer_ratios(sizes, min(low, high) / 100, power), layer_ratios(sizes, max(low, high) / 100, power)
    assert all(one <= other for one, other in zip(smaller, larger, strict=True))


def test_power_one_is_the_uniform_ratio_to_the_last_bit() -> None:
    assert layer_ratios([3, 1000, 70], 0.07, 1.0) == [0.07] * 3
    weights = maskable(build(spec("preact_resnet10", width=0.125)))
    for ratio in (0.05, 0.2, 1.0):
        assert kept_by_layer(weights, ratio, "element", 1.0) == {
            name: kept_units(weight.numel(), ratio) for name, weight in weights.items()
        }


def test_power_zero_keeps_equal_counts_where_they_fit() -> None:
    assert layer_ratios([10, 100, 1000], 60 / 1110, 0.0) == pytest.approx([1.0, 0.25, 0.025])
    assert layer_ratios([1000, 100], 1.0, 0.0) == [1.0, 1.0]


@pytest.mark.parametrize("pattern", ["element", "kernel"])
def test_small_layers_keep_more_and_the_whole_as_much(pattern: str) -> None:
    weights = maskable(build(spec("preact_resnet18", width=0.25)))
    uniform, power = (kept_by_layer(weights, 0.05, pattern, p) for p in (1.0, 0.1))
    assert power["stem.weight"] > 5 * uniform["stem.weight"]
    largest = max(weights, key=lambda name: weights[name].numel())
    assert power[largest] < uniform[largest]
    if pattern == "element":
        assert abs(sum(power.values()) - sum(uniform.values())) < len(weights)
