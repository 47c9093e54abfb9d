"""Node kind -> builder: the one module that knows every room below it.

A builder reads its inputs from the store, computes, and writes one value. It never writes anything else, so a killed
builder leaves nothing but the saved state of its training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import torch

from rstbench.build.attack import build_craft, build_predict
from rstbench.build.bench import Bench, Built, choose_device, load_checked
from rstbench.build.challenge import build_challenge
from rstbench.build.fit import build_train
from rstbench.build.foreign import loaded, weights_digest
from rstbench.build.join import build_join
from rstbench.build.measure import build_measure
from rstbench.build.provenance import provenance, revision
from rstbench.build.prune import build_lottery, build_tune
from rstbench.build.search import build_rtt, build_search
from rstbench.errors import DeviceError
from rstbench.evaluation.batches import out_of_memory
from rstbench.nodes import Node
from rstbench.store import Value
from rstbench.training import Progress

__all__ = ["Bench", "choose_device", "run_node"]


def run_node(node: Node, bench: Bench, progress: Progress) -> Value:
    """Compute one node and store its value; if the value is there by now, give that back.

    Raises an error of the `RstbenchError` tree for what a user can cause.
    """
    with bench.store.lock(node.key):
        if bench.store.has(node.key):
            return bench.store.value(node.key)
        torch.set_num_threads(_threads(node))
        started, computed = time.monotonic(), time.process_time()
        try:
            facts, files = _BUILDERS[node.kind](node, bench, progress)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
            raise DeviceError(f"out of memory; a smaller `batch` or a larger device would help ({reason})") from error
        record = {
            "kind": node.kind,
            "title": node.title,
            "spec": node.spec,
            "inputs": node.inputs,
            "wall_seconds": round(time.monotonic() - started, 3),
            "cpu_seconds": round(time.process_time() - computed, 3),  # far less: others had the CPU, or a GPU the work
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "provenance": {**provenance(bench.device), **revision()},
            **facts,
        }
        return bench.store.write(node.key, record, files)


def _threads(node: Node) -> int:
    spec: Mapping[str, Any] = node.spec.get("training") or node.spec.get("attack") or {}
    return int(spec.get("engine", {}).get("threads") or node.spec.get("threads") or 1)


def _build_data(node: Node, bench: Bench, progress: Progress) -> Built:
    arrays = load_checked(node.spec, bench.data_dir, bench.facts)
    sizes = {"train_images": len(arrays.train_images), "test_images": len(arrays.test_images)}
    return {"notes": list(arrays.notes), "classes": arrays.classes, **sizes}, {}


def _build_model(node: Node, bench: Bench, progress: Progress) -> Built:
    """Load the model once, and note what it is. Its weights stay where they are; their digest guards them."""
    found = loaded(node.spec, bench.data_dir)
    count = sum(parameter.numel() for parameter in found.module.parameters())
    return {"remarks": list(found.notes), "weights": weights_digest(found.module), "parameters": count}, {}


_BUILDERS: dict[str, Callable[[Node, Bench, Progress], Built]] = {
    "data": _build_data,
    "train": build_train,
    "search": build_search,
    "rtt": build_rtt,
    "tune": build_tune,
    "lottery": build_lottery,
    "model": _build_model,
    "craft": build_craft,
    "challenge": build_challenge,
    "predict": build_predict,
    "join": build_join,
    "measure": build_measure,
}
