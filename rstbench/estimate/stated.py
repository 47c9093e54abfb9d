"""Costs at stated rates. No torch.

They are not measured on the machine at hand: a node's multiply-accumulates, twice, over the rate of its processor in
its precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rstbench.nodes import Node
from rstbench.plan import Plan
from rstbench.store import Store

GPU_FLOPS = {"bf16": 316e12, "fp32": 60e12}
"""One H200: 40 % of its measured bf16 matrix rate, what a well-fed training step reaches; and near its fp32 rate."""
CORE_FLOPS = {"bf16": 115e9, "fp32": 60e9}
"""One CPU core with AVX-512 and its bf16 instructions, on the convolutions of a quarter-width PreActResNet-18."""

KINDS = ("data", "train", "search", "rtt", "tune", "lottery", "model", "craft", "predict", "join", "measure")


@dataclass(frozen=True)
class KindCost:
    """Sums over the nodes of one kind. shared: nodes that more than one suite needs."""

    kind: str
    nodes: int
    stored: int
    shared: int
    passes: float
    macs: float


@dataclass(frozen=True)
class Left:
    """What is not stored yet: FLOP, hours of one GPU, seconds of one CPU core, at the stated rates."""

    flop: float
    gpu_hours: float
    core_seconds: float


def costs(plans: Sequence[Plan], store: Store) -> list[KindCost]:
    """Costs of several plans together, each node counted once; a row for each kind that occurs."""
    users: dict[str, int] = {}
    nodes: dict[str, Node] = {}
    for plan in plans:
        nodes |= plan.nodes
        for key in plan.nodes:
            users[key] = users.get(key, 0) + 1
    rows = []
    for kind in KINDS:
        mine = [node for node in nodes.values() if node.kind == kind]
        if not mine:
            continue
        stored = {node.key for node in mine if store.has(node.key)}
        rows.append(
            KindCost(
                kind,
                len(mine),
                len(stored),
                sum(users[node.key] > 1 for node in mine),
                sum(node.passes for node in mine),
                sum(node.macs for node in mine),
            )
        )
    return rows


def left(nodes: Mapping[str, Node], store: Store) -> Left:
    """The cost of the nodes that the store does not hold."""
    flop = gpu = core = 0.0
    for node in nodes.values():
        if not store.has(node.key):
            flop += 2 * node.macs
            gpu += 2 * node.macs / GPU_FLOPS[node.precision]
            core += 2 * node.macs / CORE_FLOPS[node.precision]
    return Left(flop, gpu / 3600, core)
