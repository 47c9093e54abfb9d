"""What a plan will cost, before it runs. No torch.

Rates are stated, not measured: a node's multiply-accumulates, twice, over the rate of its processor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rstbench.plan import Node, Plan
from rstbench.store import Store

GPU_FLOPS = 316e12
"""40 % of the bf16 matrix rate measured on one H200: what a well-fed training step reaches."""
CORE_FLOPS = 60e9
"""One CPU core with AVX-512 on convolutions in fp32; bf16 instructions about double it."""

KINDS = ("data", "train", "search", "craft", "predict")


@dataclass(frozen=True)
class KindCost:
    """Sums over the nodes of one kind. shared: nodes that more than one suite needs."""

    kind: str
    nodes: int
    stored: int
    shared: int
    macs: float
    macs_left: float


def costs(plans: Sequence[Plan], store: Store) -> list[KindCost]:
    """Costs of several plans together, each node counted once."""
    users: dict[str, int] = {}
    nodes: dict[str, Node] = {}
    for plan in plans:
        nodes |= plan.nodes
        for key in plan.nodes:
            users[key] = users.get(key, 0) + 1
    rows = []
    for kind in KINDS:
        mine = [node for node in nodes.values() if node.kind == kind]
        stored = {node.key for node in mine if store.has(node.key)}
        rows.append(
            KindCost(
                kind,
                len(mine),
                len(stored),
                sum(users[node.key] > 1 for node in mine),
                sum(node.macs for node in mine),
                sum(node.macs for node in mine if node.key not in stored),
            )
        )
    return rows


def hours(macs: float, flops: float) -> float:
    """Hours that multiply-accumulates take at a rate in FLOP/s."""
    return 2 * macs / flops / 3600


def as_json(plans: Sequence[Plan], nodes: Mapping[str, Node], store: Store) -> str:
    """Nodes, cells and costs as JSON, for programs."""
    return json.dumps(
        {
            "suites": [
                {
                    "name": plan.suite.run.name,
                    "profile": plan.suite.profile,
                    "cells": [
                        {**cell.columns, **cell.run, "predictions": cell.predictions} for cell in plan.cells
                    ],
                }
                for plan in plans
            ],
            "nodes": [
                {
                    "key": node.key,
                    "kind": node.kind,
                    "title": node.title,
                    "stored": store.has(node.key),
                    "macs": node.macs,
                    "inputs": dict(node.inputs),
                    "spec": dict(node.spec),
                }
                for node in nodes.values()
            ],
            "rates": {"gpu_flops": GPU_FLOPS, "cpu_core_flops": CORE_FLOPS},
        },
        indent=1,
    )
