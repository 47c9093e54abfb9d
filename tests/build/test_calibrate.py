from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from rstbench.build import run_node
from rstbench.build.bench import KEPT_NETWORKS, Bench
from rstbench.build.calibrate import machine_of, measured, needed_units
from rstbench.build.calibrate_training import step_seconds
from rstbench.build.timing import Stopwatch
from rstbench.errors import DeviceError
from rstbench.estimate.breakdown import _COMPARED, _PROBED
from rstbench.estimate.calibration import Calibration
from rstbench.estimate.forecast import KEPT, Forecast
from rstbench.estimate.machine import this_machine
from rstbench.estimate.units import WORKER, Unit
from rstbench.evaluation.craft import PROBED
from rstbench.evaluation.low_precision import COMPARED
from rstbench.nodes import Node
from rstbench.session import Request, plans_of
from rstbench.store import Store
from rstbench.training import Run
from tests.suites import TINY, changed, written

CPU = torch.device("cpu")

MORE_DEFENSES = """
  tuned: {kind: ticket, search: rst, ratio: 0.3, tuning: {training: at, start: inherited}}
  lottery: {kind: lottery, weights: dense_at, ratio: 0.3, training: at}
attacks:
  autoattack: {kind: autoattack, samples: 20}
  cw_l2: {kind: cw_l2, samples: 20}
  bandits: {kind: bandits, samples: 20}
  apgd: {kind: apgd, samples: 20}
  arc: {kind: arc, samples: 20}
  hinge: {kind: hinge, samples: 20}
"""
MORE_CELLS = """
    - {defense: tuned, attack: autoattack}
    - {defense: lottery, attack: cw_l2}
    - {defense: dense_at, attack: bandits}
    - {defense: dense_at, attack: apgd}
    - {defense: r2s, attack: arc}
    - {defense: r2s, attack: hinge}
"""
EVERYTHING = changed(TINY, ("\nattacks:\n", MORE_DEFENSES)).rstrip() + MORE_CELLS
"""Nodes of every kind that optimises but RTT's, and attacks of every way of asking."""


def bench_of(tmp_path: Path, text: str) -> tuple[dict[str, Node], Bench]:
    store = Store(tmp_path / "store")
    (plan,) = plans_of(Request([written(tmp_path, text)], "paper", store.root), store, create=True)
    return dict(plan.nodes), Bench(store, None, CPU)


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rstbench.build.calibrate._started", lambda: None)


def found_of(nodes: Mapping[str, Node], bench: Bench) -> dict[Unit, float | DeviceError]:
    return dict(measured(nodes, bench, Stopwatch(CPU, least_s=0.005)))


def rates_of(nodes: Mapping[str, Node], bench: Bench) -> dict[Unit, float]:
    found = found_of(nodes, bench)
    rates = {unit: seconds for unit, seconds in found.items() if not isinstance(seconds, DeviceError)}
    assert rates.keys() == found.keys()
    return rates


def test_every_unit_is_measured_and_nothing_else_is_left_behind(tmp_path: Path) -> None:
    nodes, bench = bench_of(tmp_path, EVERYTHING)
    threads = torch.get_num_threads()
    rates = rates_of(nodes, bench)
    assert set(rates) == set(needed_units(nodes)) and WORKER in rates
    assert {unit.what for unit in rates} == {
        "step", "validate", "make", "save", "network", "attack", "predict", "load", "clean", "pack", "unpack", "value",
        "worker",
    }  # fmt: skip
    kinds = {unit.fields["attack"]["kind"] for unit in rates if unit.what == "attack"}
    assert kinds == {"pgd", "square", "cw_l2", "bandits", "apgd", "arc", "hinge"}
    assert all(seconds > 0 for seconds in rates.values())
    assert torch.get_num_threads() == threads
    assert {node.kind for node in nodes.values() if bench.store.has(node.key)} == {"data"}
    assert not list((bench.store.root / "tmp").iterdir()) and not list((bench.store.root / "partial").iterdir())
    forecast = Forecast(nodes, Calibration(machine_of(CPU), "2021-12-06", rates))
    assert all(forecast.cost(node).calibrated for node in nodes.values())


def test_an_engine_that_is_not_to_be_had_leaves_the_others(tmp_path: Path) -> None:
    """CUDA graphs on a CPU. The search comes first in the plan, so that what others share is measured with it."""
    graphs = changed(
        TINY,
        ("searches:\n  rst:\n    epochs: 1", "searches:\n  rst:\n    engine: {compiler: cuda_graphs}\n    epochs: 1"),
        ("defenses:\n", "defenses:\n  plain: {kind: ticket, search: other, ratio: 0.1}\n"),
        ("    - {defense: dense_at, attack: clean}\n", ""),
        ("    - {defense: dense_at, attack: pgd20}\n", ""),
        ("    - {defense: r2s, attack: eot}\n", "    - {defense: plain, attack: pgd20}\n"),
    )
    search = graphs[graphs.index("  rst:\n") : graphs.index("defenses:\n")].replace("rst", "other", 1)
    graphs = changed(
        graphs, ("defenses:\n", search.replace("    engine: {compiler: cuda_graphs}\n", "") + "defenses:\n")
    )
    nodes, bench = bench_of(tmp_path, graphs)
    found = found_of(nodes, bench)
    missing = {unit: error for unit, error in found.items() if isinstance(error, DeviceError)}
    assert {unit.what for unit in missing} == {"step", "validate"} and len(missing) == 2
    assert all(unit.fields["engine"]["compiler"] == "cuda_graphs" for unit in missing)
    assert all("cuda_graphs needs a GPU" in str(error) for error in missing.values())
    rates = {unit: seconds for unit, seconds in found.items() if unit not in missing and isinstance(seconds, float)}
    forecast = Forecast(nodes, Calibration(machine_of(CPU), "2021-12-06", rates))
    for node in nodes.values():
        engine = node.spec.get("training", {}).get("engine", {})
        assert forecast.cost(node).calibrated == (engine.get("compiler", "none") == "none"), node.title


def test_what_plans_look_for_is_what_calibrations_are_kept_under() -> None:
    assert this_machine("cpu") == machine_of(CPU)


class Clock:
    """Time that passes only while `sleep` is called; of it the process computes a half."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.now / 2


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("rstbench.build.timing.time", clock)
    return clock


def test_the_stopwatch_takes_the_median_after_a_first_time(clock: Clock) -> None:
    times = iter([5.0, 1.0, 3.0, 2.0, 9.0])
    watch = Stopwatch(CPU, least_s=6.0)
    assert watch.seconds(lambda: clock.sleep(next(times))) == 2.0
    assert next(times) == 9.0, "it stops once it has measured long enough"
    assert (watch.wall, watch.cpu) == (11.0, 5.5)
    assert watch.seconds(lambda: clock.sleep(7.0)) == 7.0
    assert watch.seconds(lambda: None) == 0.0, "what takes no time is not repeated for ever"


def test_a_few_images_where_all_would_take_too_long(clock: Clock) -> None:
    watch = Stopwatch(CPU, least_s=1.0)
    assert watch.affordable(1000, lambda many: clock.sleep(0.1 * many)) == 30
    assert watch.affordable(1000, lambda many: clock.sleep(0.001 * many)) == 1000
    assert watch.affordable(1000, lambda many: clock.sleep(10.0 * many)) == 2
    assert watch.affordable(3, lambda many: clock.sleep(0.1)) == 3


def test_a_step_that_takes_long_is_continued_from_smaller_batches(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes, bench = bench_of(tmp_path, TINY)
    run_node(next(node for node in nodes.values() if node.kind == "data"), bench, lambda *_: None)
    search = next(node for node in nodes.values() if node.kind == "search")
    sizes: list[int] = []

    def step(self: Run, images: torch.Tensor, labels: torch.Tensor, lr: float, noise: torch.Generator) -> None:
        sizes.append(len(images))
        clock.sleep(0.5 + self.slope * len(images))  # type: ignore[attr-defined]

    monkeypatch.setattr(Run, "step", step)
    for slope, expected in ((0.001, {16, 32, 256}), (0.01, {16, 32, 256}), (0.1, {16, 32})):
        monkeypatch.setattr(Run, "slope", slope, raising=False)
        sizes.clear()
        found = step_seconds(search, bench, Stopwatch(CPU, least_s=0.1), 256)
        assert found == pytest.approx((0.5 + slope * 256) / 256) and set(sizes) == expected


def test_what_is_counted_without_torch_is_what_the_code_does() -> None:
    assert (_PROBED, _COMPARED, KEPT["network"]) == (PROBED, COMPARED, KEPT_NETWORKS)
