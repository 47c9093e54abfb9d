"""What was measured: one row for each attack and peer, kept as JSON after every row."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """Accuracies in percent; seconds of CPU time. l2: median distance of the images that fooled, both times."""

    attack: str
    peer: str
    images: int
    clean: float
    ours: float
    theirs: float
    seconds_ours: float
    seconds_theirs: float
    l2_ours: float | None = None
    l2_theirs: float | None = None


@dataclass
class Table:
    path: Path
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps([asdict(each) for each in self.rows], indent=1) + "\n", encoding="utf-8")

    def lines(self) -> list[str]:
        """The table as Markdown."""
        lines = [
            "| attack | peer | images | clean | ours | theirs | median L2, ours / theirs | CPU seconds, both |",
            "|---|---|---:|---:|---:|---:|---:|---:|",
        ]
        for row in self.rows:
            l2 = "" if row.l2_ours is None else f"{row.l2_ours:.3f} / {row.l2_theirs:.3f}"
            lines.append(
                f"| {row.attack} | {row.peer} | {row.images} | {row.clean:.1f} | {row.ours:.1f} | {row.theirs:.1f} "
                f"| {l2} | {row.seconds_ours:.0f} / {row.seconds_theirs:.0f} |"
            )
        return lines


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What it returns, and the seconds of CPU time that it took, whatever else the machine was doing."""
    started = time.process_time()
    return work(), time.process_time() - started
