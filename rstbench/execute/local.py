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
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from rstbench.errors import DeviceError, RunError
from rstbench.execute.worker import work
from rstbench.nodes import Node
from rstbench.store import Store

_TRIES = 2
"""How often a node is begun whose worker dies: a killer that looks for memory may have hit it for another's greed."""
_GRACE_S = 10.0
"""How long a worker that was asked to stop has time to save its state."""


class Observer(Protocol):
    """Told about the course of a run."""

    def started(self, node: Node) -> None: ...

    def advanced(self, node: Node, done: float, total: float, note: str) -> None: ...

    def finished(self, node: Node, seconds: float) -> None: ...

    def retried(self, node: Node, message: str) -> None: ...

    def failed(self, node: Node, message: str) -> None: ...


@dataclass(frozen=True)
class Settings:
    """Where and with what to run. workers: None for one worker per CPU core (one in all on a GPU).

    plugins: modules that register networks, imported by every worker.
    """

    data_dir: Path | None
    device: str | None
    workers: int | None = None
    time_limit_s: float | None = None
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a node has no value, and the exit code that fits (2: bad input, 1: anything else)."""

    message: str
    exit_code: int


@dataclass(frozen=True)
class Outcome:
    """How a run ended. failures: by key; unfinished: keys without a value (time limit, failures, what needs them)."""

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

    Ctrl-C, SIGTERM and the time limit end the workers, which save the state of unfinished training first. Raises
    `KeyboardInterrupt` after having cleaned up, `StoreError` if the store cannot be written, and `DeviceError` if there
    is no such device.
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
        self._deaths: Counter[str] = Counter()
        self._computed = 0

    def run(self) -> Outcome:
        self._sorter.prepare()
        limit = self._settings.time_limit_s
        end = None if limit is None else time.monotonic() + limit
        timed_out = False
        previous = signal.signal(signal.SIGTERM, _interrupt) if _in_main_thread() else None
        try:
            while self._sorter.is_active():
                self._ready += [self._missing[key] for key in self._sorter.get_ready()]
                self._ready.sort(key=lambda node: self._order[node.key])
                self._dispatch()
                if not any(worker.node for worker in self._workers):
                    break  # all that is left waits for failed nodes
                # Longer waits than an hour would overflow the system call at 25 days.
                left = 3600.0 if end is None else min(3600.0, end - time.monotonic())
                if left <= 0:
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
        limit = self._settings.workers or _default_workers(self._settings.device)
        idle = [worker for worker in self._workers if worker.node is None]
        while self._ready and (idle or len(self._workers) < limit):
            worker = idle.pop(0) if idle else self._spawn()
            node = self._ready.pop(0)
            worker.node, worker.since = node, time.monotonic()
            self._observer.started(node)
            # A worker that died while it was idle shows in `_receive`, like one that dies at work.
            with contextlib.suppress(OSError):
                worker.pipe.send(node)

    def _spawn(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        settings = self._settings
        arguments = (there, self._store.root, settings.data_dir, settings.device, settings.plugins)
        # Not a daemon, which may have no children: workers have processes of their own that read images.
        process = context.Process(target=work, args=arguments)
        worker = _Worker(process, here)
        # Started by the first worker otherwise, and then it would unblock the signals.
        resource_tracker.ensure_running()
        with _signals_held():
            process.start()
            self._workers.append(worker)
        there.close()
        return worker

    def _receive(self, timeout_s: float) -> None:
        busy: dict[Any, _Worker] = {worker.pipe: worker for worker in self._workers if worker.node is not None}
        for pipe in wait(list(busy), timeout_s):
            worker = busy[pipe]
            node = worker.node
            if node is None:
                continue
            try:
                kind, *rest = worker.pipe.recv()
            except (EOFError, OSError):  # a worker that dies with unread messages resets the connection
                self._lost(worker, node)
                continue
            if kind == "progress":
                self._observer.advanced(node, *rest)
                continue
            worker.node = None
            if kind == "unusable":
                raise DeviceError(*rest)
            if kind == "done":
                self._computed += 1
                self._sorter.done(node.key)
                self._observer.finished(node, time.monotonic() - worker.since)
            else:
                self._fail(node, *rest)

    def _lost(self, worker: _Worker, node: Node) -> None:
        self._workers.remove(worker)
        worker.process.join(_GRACE_S)
        _end(worker)
        code = worker.process.exitcode or 0
        reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._deaths[node.key] += 1
        if self._deaths[node.key] < _TRIES:
            self._ready.append(node)
            self._observer.retried(node, f"the worker died ({reason}); once more")
        else:
            cause = "out of memory is the usual cause" if code < 0 else "its own last words may stand above"
            message = f"the worker died {_TRIES} times (last: {reason}); {cause}"
            self._fail(node, message, RunError.exit_code)

    def _fail(self, node: Node, message: str, exit_code: int) -> None:
        # Not reported to the sorter: what needs this node never becomes ready, the rest goes on.
        self._failures[node.key] = Failure(message, exit_code)
        self._observer.failed(node, message)

    def _stop(self) -> None:
        try:
            for worker in self._workers:
                if worker.node is not None:
                    worker.process.terminate()
                else:
                    with contextlib.suppress(OSError):
                        worker.pipe.send(None)
            end = time.monotonic() + _GRACE_S
            for worker in self._workers:
                worker.process.join(max(0.0, end - time.monotonic()))
        finally:  # also after a second Ctrl-C
            for worker in self._workers:
                _end(worker)
            self._workers.clear()


def _end(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.kill()
    worker.process.join()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM; a process started meanwhile begins its life so, until it is ready for them."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


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
