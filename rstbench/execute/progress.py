"""What a person sees of a run: bars with rates and time left on a terminal, one line per finished node elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from rstbench.nodes import Node

# Even a node that multiplies nothing takes time to load and store; so weighs 10 ms at 50 GFLOP/s.
_FLOOR_MACS = 2.5e8


def weight(node: Node) -> float:
    """Share of a node in the run's progress, in multiply-accumulates, where nobody measured how long it takes."""
    return node.macs + _FLOOR_MACS


def duration(seconds: float) -> str:
    """A duration for people: 42 s, 3 min 20 s, 5 h 10 min, 12 days."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    if seconds < 48 * 3600:
        return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60} min"
    return f"{seconds / 86400:.0f} days"


class _Pace:
    """Time left from the work done so far. seconds: of each node, at measured rates; None: shares by `weight`."""

    def __init__(self, nodes: Mapping[str, Node], seconds: Mapping[str, float] | None = None) -> None:
        self._weights = {key: weight(node) for key, node in nodes.items()} if seconds is None else seconds
        self.total = sum(self._weights[key] for key in nodes)
        self.done = 0.0
        self.count = 0
        self.nodes = len(nodes)
        self._partial: dict[str, float] = {}
        self._since = time.monotonic()

    def advance(self, node: Node, share: float) -> None:
        self._partial[node.key] = share * self._weights[node.key]

    def finish(self, node: Node) -> None:
        self._partial.pop(node.key, None)
        self.done += self._weights[node.key]
        self.count += 1

    def share(self) -> float:
        return min(1.0, (self.done + sum(self._partial.values())) / self.total) if self.total else 1.0

    def left(self) -> str:
        share, elapsed = self.share(), time.monotonic() - self._since
        return "" if share < 0.002 or elapsed < 2 else f"about {duration(elapsed * (1 - share) / share)} left"


class Lines:
    """For logs and pipes: one line for each finished or failed node."""

    def __init__(self, nodes: Mapping[str, Node], console: Console, seconds: Mapping[str, float] | None = None) -> None:
        self._pace, self._console = _Pace(nodes, seconds), console

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def started(self, node: Node) -> None:
        pass

    def advanced(self, node: Node, done: float, total: float, note: str) -> None:
        self._pace.advance(node, done / max(total, 1e-9))

    def finished(self, node: Node, seconds: float) -> None:
        self._pace.finish(node)
        left = self._pace.left()
        self._say(
            f"[{self._pace.count}/{self._pace.nodes}] {node.title}  {duration(seconds)}"
            + (f"  ({left})" if left else "")
        )

    def retried(self, node: Node, message: str) -> None:
        self._pace.advance(node, 0.0)
        self._say(f"{node.title}: {message}")

    def failed(self, node: Node, message: str) -> None:
        self._pace.advance(node, 0.0)
        self._say(f"FAILED {node.title}: {message}")

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        text = str(task.fields.get("left", ""))
        if not text and task.speed:
            text = f"{task.speed:.1f} {task.fields.get('unit', '')}/s"
            if task.time_remaining is not None:
                text += f", {duration(task.time_remaining)} left"
        return Text(text, style="dim", no_wrap=True)


class Bars:
    """For terminals: one bar for the run and one for each node at work."""

    def __init__(self, nodes: Mapping[str, Node], console: Console, seconds: Mapping[str, float] | None = None) -> None:
        self._pace = _Pace(nodes, seconds)
        self._progress = Progress(
            # Long titles give way, numbers do not.
            TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True)),
            BarColumn(16),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            _Rate(),
            console=console,
            expand=True,
        )
        self._whole = self._progress.add_task(f"0 of {len(nodes)} nodes", total=1.0, left=" ")
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def started(self, node: Node) -> None:
        # The bar appears with the first sign of progress: most predict nodes are over before.
        pass

    def advanced(self, node: Node, done: float, total: float, note: str) -> None:
        if node.key not in self._tasks:
            self._tasks[node.key] = self._progress.add_task(escape(node.title), total=total)
        unit = "images" if note == "images" else "steps"
        title = escape(node.title)
        label = title if note == "images" else f"{title}  {escape(note)}"
        self._progress.update(self._tasks[node.key], completed=done, total=total, description=label, unit=unit)
        self._pace.advance(node, done / max(total, 1e-9))
        self._refresh()

    def finished(self, node: Node, seconds: float) -> None:
        self._pace.finish(node)
        self._drop(node)
        if seconds > 5:
            self._progress.console.print(Text(f"{node.title}  {duration(seconds)}", style="dim"))

    def retried(self, node: Node, message: str) -> None:
        self._pace.advance(node, 0.0)
        self._drop(node)
        self._progress.console.print(Text(f"{node.title}: {message}", style="yellow"))

    def failed(self, node: Node, message: str) -> None:
        self._pace.advance(node, 0.0)
        self._drop(node)
        self._progress.console.print(Text(f"FAILED {node.title}: {message}", style="red"))

    def _drop(self, node: Node) -> None:
        task = self._tasks.pop(node.key, None)
        if task is not None:
            self._progress.remove_task(task)
        self._refresh()

    def _refresh(self) -> None:
        self._progress.update(
            self._whole,
            completed=self._pace.share(),
            description=f"{self._pace.count} of {self._pace.nodes} nodes",
            left=self._pace.left() or " ",
        )


def observer(nodes: Mapping[str, Node], console: Console, seconds: Mapping[str, float] | None = None) -> Bars | Lines:
    """Bars on a terminal, lines elsewhere. seconds: of each node, above 0, where a calibration knows them."""
    return (Bars if console.is_terminal else Lines)(nodes, console, seconds)
