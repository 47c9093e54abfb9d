"""Run the nodes of a plan on this machine, in worker processes. The parent imports no torch.

Workers are spawned, each runs one node at a time with the thread count its spec asks for, and each ends itself when
its parent is gone, however the parent died.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from rstbench.errors import RstbenchError, RunError
from rstbench.plan import Node
from rstbench.store import Store


class Observer(Protocol):
    """Told about the course of a run."""

    def started(self, node: Node) -> None: ...

    def advanced(self, node: Node, done: float, total: float, note: str) -> None: ...

    def finished(self, node: Node, seconds: float) -> None: ...

    def failed(self, node: Node, message: str) -> None: ...


@dataclass(frozen=True)
class Settings:
    """Where and with what to run. workers: None for one worker per CPU core (one in all on a GPU)."""

    data_dir: Path | None
    device: str | None
    workers: int | None = None
    time_limit_s: float | None = None


@dataclass(frozen=True)
class Failure:
    """Why a node has no value, and the exit code that fits (2: bad input, 1: anything else)."""

    message: str
    exit_code: int


@dataclass(frozen=True)
class Outcome:
    """How a run ended. failures: by node key; unfinished: keys not computed (time limit, failures, their dependents)."""

    computed: int
    failures: Mapping[str, Failure]
    unfinished: tuple[str, ...]
    timed_out: bool


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    node: Node | None = None
    since: float = 0.0


def execute(nodes: Mapping[str, Node], store: Store, settings: Settings, observer: Observer) -> Outcome:
    """Compute every node that is not in the store yet; a failed node stops only what needs it.

    Ctrl-C and the time limit end the workers; the state of unfinished searches is in the store already. Raises
    `KeyboardInterrupt` after having cleaned up.
    """
    missing = {key: node for key, node in nodes.items() if not store.has(key)}
    if not missing:
        return Outcome(0, {}, (), False)
    store.prepare()
    return _Loop(missing, store, settings, observer).run()


class _Loop:
    def __init__(self, missing: dict[str, Node], store: Store, settings: Settings, observer: Observer) -> None:
        self._missing, self._store, self._settings, self._observer = missing, store, settings, observer
        self._order = {key: place for place, key in enumerate(missing)}
        self._sorter = TopologicalSorter(
            {key: [i for i in node.inputs.values() if i in missing] for key, node in missing.items()}
        )
        self._workers: list[_Worker] = []
        self._ready: list[Node] = []
        self._failures: dict[str, Failure] = {}
        self._computed = 0

    def run(self) -> Outcome:
        self._sorter.prepare()
        started = time.monotonic()
        limit = self._settings.time_limit_s
        timed_out = False
        previous = signal.signal(signal.SIGTERM, _interrupt) if _in_main_thread() else None
        try:
            while self._sorter.is_active():
                self._ready += [self._missing[key] for key in self._sorter.get_ready()]
                self._ready.sort(key=lambda node: self._order[node.key])
                self._dispatch()
                if not any(worker.node for worker in self._workers):
                    break  # all that is left waits for failed nodes
                left = None if limit is None else limit - (time.monotonic() - started)
                if left is not None and left <= 0:
                    timed_out = True
                    break
                self._receive(left)
        finally:
            self._stop()
            if previous is not None:
                signal.signal(signal.SIGTERM, previous)
        unfinished = tuple(key for key in self._missing if not self._store.has(key))
        return Outcome(self._computed, self._failures, unfinished, timed_out)

    def _dispatch(self) -> None:
        for worker in self._workers:
            if worker.node is None and self._ready:
                self._send(worker, self._ready.pop(0))
        limit = self._settings.workers or _default_workers(self._settings.device)
        while self._ready and len(self._workers) < limit:
            worker = self._spawn()
            self._workers.append(worker)
            self._send(worker, self._ready.pop(0))

    def _spawn(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there, str(self._store.root), self._settings), daemon=True)
        process.start()
        there.close()
        return _Worker(process, here)

    def _send(self, worker: _Worker, node: Node) -> None:
        worker.node, worker.since = node, time.monotonic()
        self._observer.started(node)
        worker.pipe.send(node)

    def _receive(self, timeout_s: float | None) -> None:
        busy = {worker.pipe: worker for worker in self._workers if worker.node is not None}
        for pipe in wait(list(busy), timeout_s):
            worker = busy[pipe]  # type: ignore[index]
            node = worker.node
            if node is None:
                continue
            try:
                kind, *rest = worker.pipe.recv()
            except EOFError:
                worker.process.join()
                code = worker.process.exitcode
                reason = f"signal {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"
                self._workers.remove(worker)
                self._fail(node, f"the worker died ({reason}); out of memory is the usual cause", RunError.exit_code)
                continue
            if kind == "progress":
                self._observer.advanced(node, *rest)
                continue
            worker.node = None
            if kind == "done":
                self._computed += 1
                self._sorter.done(node.key)
                self._observer.finished(node, time.monotonic() - worker.since)
            else:
                self._fail(node, *rest)

    def _fail(self, node: Node, message: str, exit_code: int) -> None:
        # Not reported to the sorter: what needs this node never becomes ready, the rest goes on.
        self._failures[node.key] = Failure(message, exit_code)
        self._observer.failed(node, message)

    def _stop(self) -> None:
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.pipe.send(None)
            if worker.node is not None:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(10)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _default_workers(device: str | None) -> int:
    if device is not None and not device.startswith("cpu"):
        return 1
    if device is None and Path("/dev/nvidia0").exists():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _work(pipe: Connection, root: str, settings: Settings) -> None:
    """A worker process: nodes in, results out, until told to stop or until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from rstbench.build import Bench, choose_device, run_node

    bench: Bench | None = None
    while True:
        try:
            node = pipe.recv()
        except EOFError:
            return
        if node is None:
            return
        last = [0.0]

        def progress(done: float, total: float, note: str, last: list[float] = last) -> None:
            if time.monotonic() - last[0] > 0.2:
                last[0] = time.monotonic()
                pipe.send(("progress", done, total, note))

        try:
            if bench is None:
                bench = Bench(Store(Path(root)), settings.data_dir, choose_device(settings.device))
            run_node(node, bench, progress)
        except RstbenchError as error:
            pipe.send(("failed", str(error), error.exit_code))
        except Exception:
            pipe.send(("failed", "a defect of rstbench:\n" + traceback.format_exc(), RunError.exit_code))
        else:
            pipe.send(("done",))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
