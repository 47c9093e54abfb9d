"""A calibration that nobody measured: rates that follow from the units, so that tests can add up."""

from __future__ import annotations

from collections.abc import Mapping

from rstbench.estimate.breakdown import Breakdown
from rstbench.estimate.calibration import Calibration
from rstbench.estimate.machine import this_machine
from rstbench.estimate.units import WORKER, Unit
from rstbench.nodes import Node

SECONDS = {
    "step": 2e-3, "validate": 1e-3, "make": 0.5, "save": 0.1, "network": 0.25, "attack": 1e-3, "predict": 4e-4,
    "load": 1.5, "clean": 1e-5, "pack": 2e-5, "unpack": 1e-5, "value": 0.01, "worker": 3.0,
}  # fmt: skip


def calibrated(nodes: Mapping[str, Node]) -> Calibration:
    """Every unit of the nodes at the rate of its kind, on this machine."""
    breakdown = Breakdown(nodes)
    units: set[Unit] = {work.unit for node in nodes.values() for work in breakdown.of(node)} | {WORKER}
    return Calibration(this_machine("cpu"), "2021-12-06", {unit: SECONDS[unit.what] for unit in units})
