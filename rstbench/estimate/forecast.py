"""Seconds of nodes at the rates of a calibration, and of a whole run, worker by worker. No torch."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from rstbench.estimate.breakdown import Breakdown
from rstbench.estimate.calibration import Calibration, Shares
from rstbench.estimate.stated import CORE_FLOPS, GPU_FLOPS
from rstbench.estimate.units import VALUE, WORKER, Unit
from rstbench.nodes import Node

KEPT = {"data": 2, "network": 16}
"""How many data sets and networks a worker keeps (`build.bench`)."""

Held = tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """Seconds of one node. own: of its own work; held: of what its worker may still have from a node before.

    calibrated: all its rates are measured; otherwise it is counted at the stated rates, as a whole.
    """

    own: float
    held: tuple[tuple[Held, float], ...]
    calibrated: bool

    @property
    def seconds(self) -> float:
        """Of a worker that has nothing yet."""
        return self.own + sum(seconds for _, seconds in self.held)


@dataclass(frozen=True)
class Course:
    """A run as it would go. seconds: of each node, with what its worker had to bring; wall: of the whole run."""

    wall: float
    seconds: Mapping[str, float]


class Forecast:
    """Costs of the nodes of plans. nodes: all of them, also those that are stored; calibration: None: stated rates."""

    def __init__(self, nodes: Mapping[str, Node], calibration: Calibration | None) -> None:
        self._breakdown = Breakdown(nodes)
        self._costs: dict[str, Cost] = {}
        self._rates: Mapping[Unit, float] = {} if calibration is None else calibration.rates
        self._shares = Shares(() if calibration is None else calibration.shares)
        gpu = calibration is not None and calibration.machine.device != "cpu"
        self._stated = GPU_FLOPS if gpu else CORE_FLOPS

    def cost(self, node: Node) -> Cost:
        """What a node takes."""
        if node.key not in self._costs:
            self._costs[node.key] = self._cost(node)
        return self._costs[node.key]

    def _cost(self, node: Node) -> Cost:
        own, held = 0.0, dict[Held, float]()
        share = self._shares.of(node.spec["attack"]) if node.kind == "craft" else 1.0
        for work in self._breakdown.of(node):
            rate = self._rates.get(work.unit)
            if rate is None:
                return Cost(2 * node.macs / self._stated[node.precision], (), False)
            seconds = rate * work.amount * (share if work.unit.what == "attack" else 1.0)
            if work.held:
                held[work.held] = held.get(work.held, 0.0) + seconds
            else:
                own += seconds
        return Cost(own, tuple(held.items()), True)

    def costs(self, nodes: Mapping[str, Node]) -> dict[str, Cost]:
        """Costs of some of the nodes, by key."""
        return {key: self.cost(node) for key, node in nodes.items()}

    @property
    def write_seconds(self) -> float:
        """What writing a value takes, which the record of the value does not count."""
        return self._rates.get(VALUE, 0.0)

    @property
    def worker_seconds(self) -> float:
        """What it takes until a new worker computes; 0 where nobody measured it."""
        return self._rates.get(WORKER, 0.0)


@dataclass
class _Worker:
    """What a worker keeps: the things that it used last."""

    kept: dict[str, OrderedDict[Held, None]] = field(default_factory=dict)

    def brings(self, cost: Cost) -> float:
        """Seconds that it needs to bring what it does not have."""
        seconds = 0.0
        for thing, price in cost.held:
            kept = self.kept.setdefault(thing[0], OrderedDict())
            if thing in kept:
                kept.move_to_end(thing)
                continue
            seconds += price
            if len(kept) >= KEPT[thing[0]]:
                kept.popitem(last=False)
            kept[thing] = None
        return seconds


def course(nodes: Mapping[str, Node], forecast: Forecast, workers: int) -> Course:
    """How workers would go through the nodes (in topological order): as `execute.local` hands them out.

    Workers are thought not to slow one another down: true while each has cores of its own and memory is not the limit.
    """
    order = {key: place for place, key in enumerate(nodes)}
    sorter = TopologicalSorter({key: [i for i in node.inputs.values() if i in nodes] for key, node in nodes.items()})
    sorter.prepare()
    costs = forecast.costs(nodes)
    seconds: dict[str, float] = {}
    ready: list[int] = []
    keys = list(nodes)
    idle: list[_Worker] = []
    busy: list[tuple[float, int, str, _Worker]] = []
    now, started = 0.0, 0
    while sorter.is_active():
        for key in sorter.get_ready():
            heapq.heappush(ready, order[key])
        while ready and (idle or started < workers):
            key = keys[heapq.heappop(ready)]
            begin = now
            if idle:
                worker = idle.pop(0)
            else:
                worker, started, begin = _Worker(), started + 1, now + forecast.worker_seconds
            seconds[key] = costs[key].own + worker.brings(costs[key])
            heapq.heappush(busy, (begin + seconds[key], order[key], key, worker))
        now, _, key, worker = heapq.heappop(busy)
        idle.append(worker)
        sorter.done(key)
    return Course(now, seconds)
