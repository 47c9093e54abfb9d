from __future__ import annotations

from pathlib import Path

import pytest

from rstbench.estimate.breakdown import Breakdown
from rstbench.estimate.compare import by_kind, compare, learned_shares
from rstbench.estimate.forecast import Forecast, course
from rstbench.plan import Plan
from rstbench.store import Store
from tests.estimate.rates import SECONDS, calibrated
from tests.suites import planned, written


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return planned(written(tmp_path))


def keep(store: Store, plan: Plan, factor: float, **changes: object) -> None:
    """Records of all nodes as if each had taken `factor` times what is predicted of it."""
    calibration = calibrated(plan.nodes)
    machine = calibration.machine
    behind = {"hardware": machine.hardware, "torch": machine.torch} | changes
    for key, seconds in course(plan.nodes, Forecast(plan.nodes, calibration), 1).seconds.items():
        took = factor * (seconds - SECONDS["value"])  # a record is written before its own writing is over
        store.write(key, {"wall_seconds": took, "cpu_seconds": took / 2, "provenance": behind}, {})


def test_predicted_against_measured(plan: Plan, store: Store) -> None:
    keep(store, plan, 1.25)
    found = compare(plan.nodes, store, calibrated(plan.nodes))
    assert [each.node for each in found] == list(plan.nodes.values())
    assert all(each.ratio == pytest.approx(0.8) and each.off == pytest.approx(1.25) for each in found)
    assert all(each.computed == pytest.approx(each.seconds / 2) for each in found)
    rows = by_kind(found)
    assert [row.kind for row in rows] == ["data", "train", "search", "craft", "predict"]
    assert sum(row.nodes for row in rows) == len(plan.nodes)
    for row in rows:
        assert row.median_ratio == pytest.approx(0.8) == row.predicted / row.seconds
        assert row.worst.node.kind == row.kind


def test_the_worst_is_off_by_the_largest_factor_whichever_way(plan: Plan, store: Store) -> None:
    keep(store, plan, 1.0)
    searches = [node for node in plan.nodes.values() if node.kind == "search"]
    found = compare(plan.nodes, store, calibrated(plan.nodes))
    changed = [
        each if each.node != searches[1] else type(each)(each.node, 3 * each.seconds, each.predicted, None)
        for each in found
    ]
    row = next(row for row in by_kind(changed) if row.kind == "search")
    assert row.worst.node == searches[1] and row.worst.ratio == pytest.approx(1 / 3)
    assert row.worst.off == pytest.approx(3)


@pytest.mark.parametrize("change", [{"hardware": "another"}, {"torch": "1.0"}])
def test_records_of_other_machines_say_nothing(plan: Plan, store: Store, change: dict[str, str]) -> None:
    keep(store, plan, 1.0, **change)
    assert compare(plan.nodes, store, calibrated(plan.nodes)) == []


def test_records_before_cpu_time_was_noted(plan: Plan, store: Store) -> None:
    machine = calibrated(plan.nodes).machine
    key = next(iter(plan.nodes))
    behind = {"hardware": machine.hardware, "torch": machine.torch}
    store.write(key, {"wall_seconds": 2.0, "provenance": behind}, {})
    (found,) = compare(plan.nodes, store, calibrated(plan.nodes))
    assert found.seconds == 2.0 and found.computed is None


def test_shares_are_learned_from_the_passes_that_were_made(plan: Plan, store: Store) -> None:
    crafts = [node for node in plan.nodes.values() if node.kind == "craft"]
    stopping = [node for node in crafts if node.spec["attack"]["stop"] == "source_fooled"]
    breakdown = Breakdown(plan.nodes)
    assert len(stopping) == 3 and learned_shares(plan.nodes, store) == []
    for node, share in zip(stopping, (0.5, 0.6, 0.9), strict=True):
        made = share * breakdown.attack_passes(node)
        store.write(node.key, {"passes": {"forward": 50, "gradient": (made - 50) / 2}}, {})
    for node in crafts:
        if node not in stopping:
            store.write(node.key, {"flags": []}, {})  # resumed: nobody counted
    (learned,) = learned_shares(plan.nodes, store)
    assert learned.share == pytest.approx(0.6) and learned.nodes == 3
    assert learned.attack["stop"] == "source_fooled" and not {"batch", "samples", "engine"} & set(learned.attack)
