"""What the panels of a figure read from the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rstbench.report.figures.points import shown
from rstbench.report.statistics import t_over_seeds, wilson
from rstbench.store import Store
from tests.report.figures.small_figure import FIGURE, pictured, stored
from tests.report.planned import N
from tests.suites import changed


def test_lines_over_ratios(tmp_path: Path) -> None:
    plan = pictured(tmp_path)
    lines = shown(plan, stored(tmp_path, plan))[0]
    scratch, trained = lines.lines
    assert (scratch.label, trained.label) == ("scratch", "trained")
    # In the order of the axis, whatever that of the suite; images of another source do not belong to the line.
    assert [point.ratio for point in scratch.points] == [0.05, 0.20, 0.60]
    expected = [100 * np.mean([12 + round(20 * r), 16 + round(20 * r)]) / N for r in (0.05, 0.20, 0.60)]
    assert [point.value for point in scratch.points] == pytest.approx(expected)
    for point, ratio in zip(scratch.points, (0.05, 0.20, 0.60), strict=True):
        interval = t_over_seeds([100 * (12 + round(20 * ratio)) / N, 100 * (16 + round(20 * ratio)) / N])
        assert (point.low, point.high) == pytest.approx((interval.low, interval.high))
        assert point.interval == "t over seeds"
    (dashed,) = lines.dashed
    assert [point.value for point in dashed.points] == pytest.approx([100 * 12 / N])
    assert lines.missing == () and lines.refusal() is None


def test_a_dashed_line_for_each_attack(tmp_path: Path) -> None:
    plan = pictured(tmp_path, "desk")
    both = shown(plan, stored(tmp_path, plan))[1]
    assert [line.metric for line in both.lines] == ["natural_acc", "robust_acc"]
    assert [(line.metric, line.points[0].value) for line in both.dashed] == [
        ("natural_acc", 100 * 16 / N),
        ("robust_acc", 100 * 10 / N),
    ]
    assert {point.cell.columns["dataset"] for point in both.found} == {"cifar100"}


def test_a_matrix_with_the_interval_of_each_entry(tmp_path: Path) -> None:
    one_seed = pictured(tmp_path, "desk")
    heat = shown(one_seed, stored(tmp_path, one_seed))[2].heat
    assert heat is not None and heat.sources == heat.members == ("0.05", "0.20")
    assert heat.values == pytest.approx(100 / N * np.array([[13.0, 24.0], [21.0, 16.0]]))
    first = wilson(13, N)
    assert (heat.low[0, 0], heat.high[0, 0], heat.intervals) == (first.low, first.high, "wilson")
    two_seeds = pictured(tmp_path, "paper")
    heat = shown(two_seeds, stored(tmp_path / "two", two_seeds))[2].heat
    assert heat is not None and heat.intervals == "t over seeds"
    assert heat.values == pytest.approx(100 / N * np.array([[15.0, 26.0], [23.0, 18.0]]))
    ends = t_over_seeds([100 * 13 / N, 100 * 17 / N])
    assert (heat.low[0, 0], heat.high[0, 0]) == pytest.approx((ends.low, ends.high))


def test_measures_as_bars_and_as_distributions(tmp_path: Path) -> None:
    plan = pictured(tmp_path, "desk")
    panels = shown(plan, stored(tmp_path, plan))
    near, far = panels[3].lines
    assert (near.group, far.group) == ("4/255", "8/255") and near.metric == "feature_distance"
    assert near.points[0].value != far.points[0].value
    assert near.points[0].low < near.points[0].value < near.points[0].high
    values = panels[4].samples["dense"]
    assert len(values) == N and bool((np.diff(values) >= 0).all())
    assert values.mean() == pytest.approx(far.points[0].value)
    two_seeds = pictured(tmp_path, "paper")
    both = shown(two_seeds, stored(tmp_path / "two", two_seeds))
    assert len(both[4].samples["dense"]) == 2 * N


def test_what_is_missing(tmp_path: Path) -> None:
    plan = pictured(tmp_path, "desk")
    lines = shown(plan, stored(tmp_path, plan, ("0.60 to 0.60",)))[0]
    assert [point.ratio for point in lines.lines[0].points] == [0.05, 0.20]
    assert {(cell.defense, cell.columns["ratio"]) for cell in lines.missing} == {("rst", "0.60"), ("rtt", "0.60")}
    nothing = Store(tmp_path / "none")
    nothing.prepare()
    assert [panel.refusal() for panel in shown(plan, nothing)] == ["none of its values is in the store"] * 5


def test_refusals(tmp_path: Path) -> None:
    plan = pictured(tmp_path, "smoke")
    panels = shown(plan, stored(tmp_path, plan))
    assert panels[0].refusal() == "only one remaining ratio (0.05), and one point makes no line"
    assert [panel.refusal() for panel in panels[2:]] == [None, None, None]
    single = changed(FIGURE, ('        - {defense: dense_at, label: dense, measure: far, group: "8/255"}\n', ""))
    one_bar = pictured(tmp_path, "desk", single)
    assert shown(one_bar, stored(tmp_path / "one", one_bar))[3].refusal() == (
        "only one value, and one bar compares nothing"
    )
