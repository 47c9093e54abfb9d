"""Workers without torch: the real loop, pipes, locks and signals around builders that only do as their node says.

A module of its own because spawned processes import it by name; its folder is put on their path by the tests.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from rstbench.errors import DataError, DeviceError, DivergenceError
from rstbench.execute import worker
from rstbench.nodes import Node, node_key
from rstbench.store import Store

Progress = Callable[[float, float, str], None]


def node(name: str, kind: str = "predict", inputs: tuple[Node, ...] = (), **orders: Any) -> Node:
    """A node that does what `orders` say: seconds, fail, die (where), state."""
    spec = {"name": name, **orders}
    roles = {f"member_{i}": made.key for i, made in enumerate(inputs)}
    return Node(kind, node_key(kind, spec, roles), spec, roles, name, 1.0)


def graph(*nodes: Node) -> dict[str, Node]:
    return {made.key: made for made in nodes}


class _Bench:
    def __init__(self, store: Store, data_dir: Path | None, device: str | None) -> None:
        self.store = store


def _choose_device(name: str | None) -> str | None:
    if name == "quantum":
        raise DeviceError("device 'quantum' is not available here")
    return name


def _run_node(made: Node, bench: _Bench, progress: Progress) -> None:
    with bench.store.lock(made.key):
        if bench.store.has(made.key):
            return
        _obey(made.spec, made.key, bench.store, progress)
        bench.store.write(made.key, {"kind": made.kind, "pid": os.getpid()}, {})


def _obey(orders: Mapping[str, Any], key: str, store: Store, progress: Progress) -> None:
    attempt = len(list(store.root.glob(f"begun-{orders['name']}-*")))
    (store.root / f"begun-{orders['name']}-{attempt}").write_text(str(os.getpid()))
    if "fail" in orders:
        raise {"data": DataError, "divergence": DivergenceError, "defect": ZeroDivisionError, "memory": MemoryError}[
            orders["fail"]
        ]("it failed")
    if attempt < orders.get("deaths", 0):
        os.kill(os.getpid(), signal.SIGKILL)
    if orders.get("exit"):
        os._exit(orders["exit"])
    if orders.get("flood"):
        worker._PROGRESS_EVERY_S = 0.0
        for i in range(orders["flood"]):
            progress(i, orders["flood"], "x" * 1000)
    end = time.monotonic() + orders.get("seconds", 0.0)
    try:
        while time.monotonic() < end:
            progress(0.0, 1.0, "steps")
            time.sleep(0.01)
    except BaseException:
        store.write_partial(key, "state.bin", b"saved when it was asked to stop")
        raise


def work(*arguments: Any) -> None:
    """`worker.work` with builders that need no torch."""
    build = ModuleType("rstbench.build")
    vars(build).update(Bench=_Bench, choose_device=_choose_device, run_node=_run_node)
    sys.modules["rstbench.build"] = build
    worker.work(*arguments)


def work_that_dies_at_once(*arguments: Any) -> None:
    """A worker that is gone before it has read what was sent to it."""
    os._exit(3)


def work_that_dies_when_idle(*arguments: Any) -> None:
    """A worker that answers its first node, and is gone before the second."""
    pipe, root, *_ = arguments
    first = pipe.recv()
    Store(root).write(first.key, {}, {})
    pipe.send(("done",))
    os._exit(0)
