"""Predicted against measured time of nodes that ran on this machine. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from rstbench.estimate.breakdown import Breakdown
from rstbench.estimate.calibration import Calibration, Share, attack_fields
from rstbench.estimate.forecast import Forecast, course
from rstbench.estimate.machine import Machine
from rstbench.estimate.stated import KINDS
from rstbench.nodes import Node
from rstbench.spec.base import canonical_json
from rstbench.store import Store


@dataclass(frozen=True)
class Compared:
    """One stored node. seconds: what it took; predicted: what it should have taken.

    computed: seconds that its process had a CPU, None for records that do not say; far less than `seconds` on a CPU
    if others wanted it, too.
    """

    node: Node
    seconds: float
    predicted: float
    computed: float | None

    @property
    def off(self) -> float:
        """By what factor the prediction is off, above 1 whichever way."""
        return max(self.ratio, 1 / max(self.ratio, 1e-9))

    @property
    def ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted / max(self.seconds, 1e-3)  # records count milliseconds


@dataclass(frozen=True)
class KindCompared:
    """The stored nodes of one kind. worst: the one whose prediction is off by the largest factor."""

    kind: str
    nodes: int
    seconds: float
    predicted: float
    median_ratio: float
    worst: Compared


def compare(nodes: Mapping[str, Node], store: Store, calibration: Calibration) -> list[Compared]:
    """Every node that is stored, ran on the calibration's machine, and has all its rates.

    A worker keeps data and networks from node to node, and a record does not say which worker it had; predicted is
    what each node would take in this order of one worker.
    """
    ran = {key: node for key, node in nodes.items() if _ran_on(store, key, calibration.machine)}
    forecast = Forecast(nodes, calibration)
    seconds = course(ran, forecast, 1).seconds
    found = []
    for key, node in ran.items():
        if forecast.cost(node).calibrated:
            record = store.value(key).record
            predicted = max(0.0, seconds[key] - forecast.write_seconds)
            found.append(Compared(node, float(record["wall_seconds"]), predicted, record.get("cpu_seconds")))
    return found


def by_kind(found: list[Compared]) -> list[KindCompared]:
    """A row for each kind that occurs."""
    rows = []
    for kind in KINDS:
        mine = [each for each in found if each.node.kind == kind]
        if mine:
            rows.append(
                KindCompared(
                    kind,
                    len(mine),
                    sum(each.seconds for each in mine),
                    sum(each.predicted for each in mine),
                    median(each.ratio for each in mine),
                    max(mine, key=lambda each: each.off),
                )
            )
    return rows


def learned_shares(nodes: Mapping[str, Node], store: Store) -> list[Share]:
    """Of every attack that the store has records of: passes that it made over those that were assumed.

    Above all the share of images that stand until the end, which differs between defenses; any machine will do.
    """
    breakdown = Breakdown(nodes)
    found: dict[str, list[float]] = {}
    attacks: dict[str, dict[str, object]] = {}
    for key, node in nodes.items():
        if node.kind != "craft" or not store.has(key) or not (assumed := breakdown.attack_passes(node)):
            continue
        if "smaller" in node.inputs:  # attacks only what stood before: no share of its own
            continue
        made = store.value(key).record.get("passes")
        if not isinstance(made, dict):  # of an attack that was resumed, nobody knows
            continue
        fields = attack_fields(node.spec["attack"])
        text = canonical_json(fields)
        attacks[text] = fields
        found.setdefault(text, []).append((made["forward"] + 2 * made["gradient"]) / assumed)
    return [Share(attacks[text], median(shares), len(shares)) for text, shares in found.items() if median(shares) > 0]


def _ran_on(store: Store, key: str, machine: Machine) -> bool:
    if not store.has(key):
        return False
    record = store.value(key).record
    behind = record.get("provenance", {})
    here = behind.get("hardware") == machine.hardware and behind.get("torch") == machine.torch
    return here and "wall_seconds" in record
