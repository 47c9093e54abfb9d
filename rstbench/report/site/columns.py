"""Columns of the table: which there are, which are shown at first, and what stands in a cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rstbench.report.leaderboard.schema import COLUMNS, Row
from rstbench.spec.flags import RELIABILITY

Kind = Literal["rank", "name", "metric", "number", "bytes", "text", "words"]


@dataclass(frozen=True)
class Column:
    """A column. name: of the CSV; kind: how its cells look; shown: without asking; filtered: by a list of values."""

    name: str
    heading: str
    kind: Kind
    shown: bool = True
    filtered: bool = False

    @property
    def classes(self) -> str:
        """Of its cells, for the style sheet."""
        return "metric worst" if self.name == "worst" else self.kind

    @property
    def tag(self) -> str:
        """The element of its cells: the name heads its row."""
        return "th" if self.kind == "name" else "td"

    @property
    def meaning(self) -> str:
        """What the CSV's column says."""
        return COLUMNS[self.name]


_DASH, _TIMES, _THIN = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}", "\N{NARROW NO-BREAK SPACE}"

METRIC_HEADINGS = {
    "worst": "Worst case",
    "adaptive": "Adaptive",
    "pgd20_paper": "PGD-20, paper's stop",
    "pgd20": "PGD-20",
    "autoattack": "AutoAttack",
    "clean": "Clean",
}
"""In the order of the table: what ranks first; the paper's weak adversary right beside the adaptive one."""

SHOWN = (
    Column("rank", "Rank", "rank"),
    Column("name", "Defense", "name"),
    *(Column(name, METRIC_HEADINGS[name], "metric") for name in METRIC_HEADINGS),
    Column("remaining_ratio", "Remaining ratio", "words"),
    Column("ticket_bytes", "Size", "bytes"),
    Column("defense", "Kind", "text", shown=False, filtered=True),
    Column("network", "Network", "text", filtered=True),
    Column("n", "Images", "number"),
    Column("profile", "Profile", "text", filtered=True),
    Column("members", "Members", "number", shown=False),
    Column("parameters", "Parameters", "number", shown=False),
    Column("parameters_kept", "Parameters kept", "number", shown=False),
    Column("adaptive_attack", "Adaptive attack", "text", shown=False),
    Column("worst_attack", "Strongest attack", "text", shown=False),
    Column("worst_tries", "Tries", "number", shown=False),
    Column("seeds", "Seeds", "text", shown=False),
    Column("flags", "Flags", "words", shown=False),
    Column("challengers", "Challengers", "text", shown=False),
    Column("date", "Date", "text", shown=False),
)


@dataclass(frozen=True)
class Cell:
    """What stands in a cell. text: large; note: small, beneath; order: what sorting compares, "" for nothing there."""

    text: str
    note: str = ""
    order: str = ""


def cell(column: Column, row: Row) -> Cell:
    """The cell of a row. Notes: of a metric its interval; of the name the flags that cast doubt on its numbers."""
    text = row[column.name]
    if not text:
        return Cell("")
    if column.kind == "name":
        return Cell(text, ", ".join(flag for flag in row["flags"].split() if flag in RELIABILITY), text)
    if column.kind == "metric":
        return Cell(text, interval(column.name, row), text)
    if column.kind == "number":
        return Cell(f"{int(text):,}".replace(",", _THIN), order=text)
    if column.kind == "bytes":
        return Cell(size(int(text)), order=text)
    if column.name == "remaining_ratio":
        return _ratios(text)
    return Cell(text, order=text)


def interval(metric: str, row: Row) -> str:
    """The ends of the interval, and the number of images where it is not the one of the rank."""
    ends = f"{float(row[f'{metric}_low']):.1f}{_DASH}{float(row[f'{metric}_high']):.1f}"
    images = row[f"{metric}_n"]
    return f"{ends}\nn {images}" if images and images != row["n"] else ends


def size(count: int) -> str:
    """Bytes for people: "29.3 KiB"."""
    value, units = float(count), ["bytes", "KiB", "MiB", "GiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.0f} bytes" if units[0] == "bytes" else f"{value:.3g} {units[0]}"


def ratios_of(text: str) -> list[float]:
    """The remaining ratios of a row, ascending; what is no number in (0, 1] is left out."""
    found = []
    for word in text.split():
        try:
            ratio = float(word)
        except ValueError:
            continue
        if 0 < ratio <= 1:
            found.append(ratio)
    return sorted(found)


def _ratios(text: str) -> Cell:
    found = ratios_of(text)
    if len(found) < 2:
        return Cell(text, order=str(found[0]) if found else "")
    if found[0] == found[-1]:
        return Cell(f"{len(found)} {_TIMES} {found[0]:g}", order=str(found[0]))
    return Cell(f"{found[0]:g}{_DASH}{found[-1]:g}", f"{len(found)} members", str(found[0]))
