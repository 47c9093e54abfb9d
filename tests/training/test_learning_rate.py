from __future__ import annotations

import math

import pytest

from rstbench.spec.training import LrSchedule
from rstbench.training import learning_rate


@pytest.mark.parametrize(
    ("position", "expected"),
    [(0, 0.1), (79.999, 0.1), (80, 0.01), (119.5, 0.01), (120, 0.001), (159.9, 0.001)],
)
def test_the_papers_schedule_falls_at_80_and_120(position: float, expected: float) -> None:
    assert learning_rate(0.1, LrSchedule(), position, 160) == pytest.approx(expected, rel=1e-12)


def test_milestones_need_no_order_and_a_factor_of_their_own() -> None:
    schedule = LrSchedule(milestones=(4, 2), factor=0.5)
    assert [learning_rate(8.0, schedule, epoch, 6) for epoch in range(6)] == [8, 8, 4, 4, 2, 2]


def test_cosine_falls_at_every_step_from_the_end_of_the_warm_up_to_zero() -> None:
    schedule = LrSchedule(kind="cosine", warmup_epochs=5)
    assert learning_rate(0.256, schedule, 0, 100) == 0.0
    assert learning_rate(0.256, schedule, 2.5, 100) == pytest.approx(0.128)
    assert learning_rate(0.256, schedule, 5, 100) == 0.256
    for position in (5.0, 17.25, 52.5, 99.99, 100.0):
        expected = 0.256 * math.cos(math.pi / 2 * (position - 5) / 95) ** 2
        assert learning_rate(0.256, schedule, position, 100) == pytest.approx(expected, abs=1e-12)
    assert learning_rate(0.256, schedule, 100, 100) == 0.0


def test_constant_and_a_warm_up_as_long_as_the_run() -> None:
    assert learning_rate(0.3, LrSchedule(kind="constant"), 12.5, 100) == 0.3
    cosine = LrSchedule(kind="cosine", warmup_epochs=2)
    assert [learning_rate(0.2, cosine, position, 2) for position in (0, 1, 1.5)] == pytest.approx([0, 0.1, 0.15])
