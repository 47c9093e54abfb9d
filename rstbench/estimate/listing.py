"""Plans with their costs as JSON, for programs. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from rstbench.estimate.calibration import Calibration
from rstbench.estimate.forecast import Forecast, course
from rstbench.estimate.stated import CORE_FLOPS, GPU_FLOPS
from rstbench.nodes import Node
from rstbench.plan import Plan
from rstbench.store import Store


def as_json(
    plans: Sequence[Plan],
    nodes: Mapping[str, Node],
    store: Store,
    calibration: Calibration | None = None,
    workers: int = 1,
) -> str:
    """Nodes, cells and costs as JSON.

    With a calibration, `seconds` of each node (null without, and where its rates are not all measured), and the
    `wall_seconds` that so many workers would take for what is not stored.
    """
    forecast = Forecast(nodes, calibration)
    costs = forecast.costs(nodes)
    missing = {key: node for key, node in nodes.items() if not store.has(key)}
    document = {
        "suites": [
            {
                "name": plan.suite.run.name,
                "profile": plan.suite.profile,
                "cells": [
                    {**cell.columns, **cell.run, "predictions": cell.predictions, "values": cell.values}
                    for cell in plan.cells
                ],
            }
            for plan in plans
        ],
        "nodes": [
            {
                "key": node.key,
                "kind": node.kind,
                "title": node.title,
                "stored": node.key not in missing,
                "macs": node.macs,
                "passes": node.passes,
                "precision": node.precision,
                "seconds": costs[node.key].seconds if costs[node.key].calibrated else None,
                "inputs": dict(node.inputs),
                "spec": dict(node.spec),
            }
            for node in nodes.values()
        ],
        "rates": {"gpu_flops": GPU_FLOPS, "cpu_core_flops": CORE_FLOPS},
        "calibration": None if calibration is None else {**asdict(calibration.machine), "date": calibration.date},
        "workers": workers,
        "wall_seconds": None if calibration is None else course(missing, forecast, workers).wall,
    }
    return json.dumps(document, indent=1)
