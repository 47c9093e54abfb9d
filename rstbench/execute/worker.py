"""A worker process: nodes in, results out, until it is told to stop or its parent is gone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from rstbench.errors import RstbenchError, RunError
from rstbench.nodes import NETWORKS, Node
from rstbench.store import Store

_PROGRESS_EVERY_S = 0.2


class _Stopped(BaseException):
    """Ends the work at once. Not an Exception, so that no builder takes it for a failure of its own."""


class _Stop:
    """SIGTERM as a request: it ends the work at once, or, while a network is trained, between two steps.

    Between two steps, because there the training has a state that can be saved.
    """

    def __init__(self) -> None:
        self.asked = False
        self.training = False

    def __call__(self, signum: int, frame: object) -> None:
        self.asked = True
        if not self.training:
            raise _Stopped

    def check(self) -> None:
        if self.asked:
            raise _Stopped


def work(
    pipe: Connection, root: Path, data_dir: Path | None, device: str | None, plugins: tuple[str, ...] = ()
) -> None:
    """Receive nodes, compute them into the store at `root`, and answer with messages until None is received.

    Messages are tuples: ("progress", done, total, note), ("done",), ("failed", message, exit code), and
    ("unusable", message) if there is no such device.
    """
    stop = _Stop()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Where the parent is gone there is nobody to answer.
    with contextlib.suppress(_Stopped, EOFError, BrokenPipeError, ConnectionResetError):
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})  # the parent held them back
            _serve(pipe, root, data_dir, device, plugins, stop)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending; nothing is left to interrupt


def _serve(
    pipe: Connection,
    root: Path,
    data_dir: Path | None,
    device: str | None,
    plugins: tuple[str, ...],
    stop: _Stop,
) -> None:
    from rstbench.build import Bench, choose_device, run_node
    from rstbench.foreign.plugins import register_modules

    try:
        register_modules(plugins)
        bench = Bench(Store(root), data_dir, choose_device(device))
    except RstbenchError as error:
        pipe.send(("unusable", str(error)))
        return
    while (node := pipe.recv()) is not None:
        progress = _Progress(pipe, node, stop)
        message: tuple[object, ...]
        try:
            run_node(node, bench, progress)
            message = ("done",)
        except RstbenchError as error:
            message = ("failed", str(error), error.exit_code)
        except MemoryError:
            message = ("failed", "out of memory", RunError.exit_code)
        except Exception:
            message = ("failed", "a defect of rstbench:\n" + traceback.format_exc(), RunError.exit_code)
        stop.training = False
        pipe.send(message)
        stop.check()


class _Progress:
    """What builders call now and then: passes the word on, and the wish to stop back."""

    def __init__(self, pipe: Connection, node: Node, stop: _Stop) -> None:
        self._pipe, self._node, self._stop = pipe, node, stop
        self._last = 0.0

    def __call__(self, done: float, total: float, note: str) -> None:
        self._stop.training = self._node.kind in NETWORKS
        self._stop.check()
        if time.monotonic() - self._last > _PROGRESS_EVERY_S:
            self._last = time.monotonic()
            self._pipe.send(("progress", done, total, note))


def _end_with_parent() -> None:
    # However the parent ends, also by SIGKILL.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
