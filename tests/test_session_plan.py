from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from rstbench.errors import DeviceError, StoreError
from rstbench.estimate.calibration import FILE, write
from rstbench.estimate.forecast import Forecast, course
from rstbench.execute.progress import duration
from rstbench.plan import Plan
from rstbench.session_plan import expected_seconds, plan_as_json, show_comparison, show_plan
from rstbench.store import Store
from tests.estimate.rates import calibrated
from tests.suites import planned, written


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return planned(written(tmp_path))


def text_of(show: object, *arguments: object, **options: object) -> str:
    console = Console(file=io.StringIO(), width=400)
    show(*arguments, console, **options)  # type: ignore[operator]
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_nothing_is_measured(plan: Plan, store: Store) -> None:
    text = text_of(show_plan, [plan], store, device="cpu")
    assert "Left to compute" in text and "stated rates" in text and "rstbench calibrate" in text
    assert "Calibrated" not in text
    assert expected_seconds(plan.nodes, plan.nodes, store, "cpu") is None
    assert "no calibration of this machine" in text_of(show_comparison, [plan], store, device="cpu")


def test_a_calibrated_machine(plan: Plan, store: Store) -> None:
    calibration = calibrated(plan.nodes)
    write(store.root, calibration)
    forecast = Forecast(plan.nodes, calibration)
    one, three = (duration(course(plan.nodes, forecast, workers).wall) for workers in (1, 3))
    text = text_of(show_plan, [plan], store, device="cpu", workers=3)
    assert f"Calibrated on 2021-12-06 on this machine ({calibration.machine})" in text
    assert f"about {one} with 1 worker, {three} with 3." in text
    assert "stated rates: some" not in text
    assert f"about {one}." in text_of(show_plan, [plan], store, device="cpu", workers=1)


def test_nothing_is_left(plan: Plan, store: Store) -> None:
    write(store.root, calibrated(plan.nodes))
    for key in plan.nodes:
        store.write(key, {}, {})
    text = text_of(show_plan, [plan], store, device="cpu")
    assert "Nothing is left to compute" in text and "PFLOP, about" not in text and "with 1 worker" not in text


def test_another_kind_of_device_stops_a_plan_and_is_for_workers_to_refuse(plan: Plan, store: Store) -> None:
    with pytest.raises(DeviceError, match="quantum"):
        text_of(show_plan, [plan], store, device="quantum")
    assert expected_seconds(plan.nodes, plan.nodes, store, "quantum") is None


def test_some_work_is_not_measured(plan: Plan, store: Store, tmp_path: Path) -> None:
    write(store.root, calibrated({k: n for k, n in plan.nodes.items() if n.kind in ("data", "train")}))
    others = sum(node.kind not in ("data", "train") for node in plan.nodes.values())
    text = text_of(show_plan, [plan], store, device="cpu")
    assert f"{others} of {len(plan.nodes)} nodes count at the stated rates" in text


def test_a_damaged_calibration_stops_a_plan_and_no_run(plan: Plan, store: Store) -> None:
    (store.root / FILE).write_text("{}")
    with pytest.raises(StoreError, match="calibrate again"):
        plan_as_json([plan], store, "cpu")
    assert expected_seconds(plan.nodes, plan.nodes, store, "cpu") is None


def test_progress_goes_by_what_nodes_take_here(plan: Plan, store: Store) -> None:
    calibration = calibrated(plan.nodes)
    write(store.root, calibration)
    seconds = expected_seconds(plan.nodes, plan.nodes, store, "cpu")
    assert seconds is not None and seconds.keys() == plan.nodes.keys() and min(seconds.values()) > 0
    assert sum(seconds.values()) == pytest.approx(
        sum(course(plan.nodes, Forecast(plan.nodes, calibration), 1).seconds.values())
    )


def test_the_comparison_is_listed_by_kind(plan: Plan, store: Store) -> None:
    calibration = calibrated(plan.nodes)
    write(store.root, calibration)
    behind = {"hardware": calibration.machine.hardware, "torch": calibration.machine.torch}
    seconds = course(plan.nodes, Forecast(plan.nodes, calibration), 1).seconds
    for key, spent in seconds.items():
        store.write(key, {"wall_seconds": 2 * spent, "cpu_seconds": 0.5 * spent, "provenance": behind}, {})
    text = text_of(show_comparison, [plan], store, device="cpu")
    rows = {line.split("│")[1].strip(): line.split("│")[2:-1] for line in text.splitlines() if "│" in line}
    assert list(rows) == ["data", "train", "search", "craft", "predict"]
    searches = [node.title for node in plan.nodes.values() if node.kind == "search"]
    nodes, _, _, ratio, middle, within, worst, of = (cell.strip() for cell in rows["search"])
    assert (nodes, within) == ("2", "0")
    assert all(float(each) == pytest.approx(0.5, abs=0.01) for each in (ratio, middle, worst))
    assert any(of.startswith(title) for title in searches)
    assert "ratio 0.49" in text or "ratio 0.50" in text
    assert "waited for a CPU 75% of the time: the machine was busy" in text
    assert f"{len(seconds)} of {len(seconds)} stored nodes ran on this machine" in text


def test_records_that_do_not_say_how_long_they_computed_blame_nobody(plan: Plan, store: Store) -> None:
    calibration = calibrated(plan.nodes)
    write(store.root, calibration)
    behind = {"hardware": calibration.machine.hardware, "torch": calibration.machine.torch}
    for key in plan.nodes:
        store.write(key, {"wall_seconds": 1.0, "provenance": behind}, {})
    text = text_of(show_comparison, [plan], store, device="cpu")
    assert "In all:" in text and "waited for a CPU" not in text
