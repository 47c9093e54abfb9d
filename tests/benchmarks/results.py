"""Where measurements go: one JSON file, written after every row, in which a later run replaces what it measured again.

No torch and no pytest here: `tables.py` reads the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One ratio, or seconds without a reference.

    ratio: median over rounds of the reference's time over ours, with quartiles; None where there is no reference.
    seconds, reference_seconds: medians. floor: of the ratio from below, or of the seconds from above. low_seconds,
    high_seconds: quartiles, where there is no ratio. load: the machine's load average over the last minute, at the end.
    """

    subject: str
    setting: str
    unit: str
    name: str
    reference: str
    rounds: int
    ratio: float | None
    low: float | None
    high: float | None
    seconds: float
    reference_seconds: float | None
    floor: float | None
    note: str = ""
    low_seconds: float | None = None
    high_seconds: float | None = None
    load: float | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """What a later measurement of the same has in common with it."""
        return self.subject, self.setting, self.name, self.reference

    @property
    def held(self) -> bool | None:
        """Whether the floor was reached; None where there is none."""
        if self.floor is None:
            return None
        return self.seconds <= self.floor if self.ratio is None else self.ratio >= self.floor


@dataclass
class Results:
    """Rows of one machine under one setting of threads and versions. machine: JSON-able."""

    path: Path
    machine: Mapping[str, Any]
    rows: dict[tuple[str, ...], Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.is_file():
            machine, rows = read(self.path)
            if machine == dict(self.machine):  # of another machine, nothing can stand beside ours
                self.rows = {row.key: row for row in rows}

    def add(self, row: Row) -> None:
        """Enter a row and write the file."""
        self.rows[row.key] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {"machine": dict(self.machine), "rows": [asdict(each) for each in self.rows.values()]}
        self.path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """Machine and rows of a file that `Results` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["machine"], [Row(**row) for row in content["rows"]]
