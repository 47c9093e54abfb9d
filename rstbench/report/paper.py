"""The paper's 272 reference values, and which of them a cell of ours answers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

from rstbench.errors import SpecError

IDENTITY = (
    "table", "dataset", "network", "defense", "ratio", "candidate_set",
    "attack", "norm", "eps", "attack_source", "metric",
)  # fmt: skip
"""The columns that say which value of the paper a row is, in the order of its csv."""

_NUMBERS = ("ratio", "candidate_set", "eps")

Format = Literal["csv", "markdown", "table"]


@dataclass(frozen=True)
class PaperRow:
    """One value of the paper, every column in the words of paper_tables.csv. Accuracies are in percent."""

    columns: Mapping[str, str]
    value: str


def paper_csv() -> bytes:
    """The reference values as a csv file, byte for byte as the package carries it."""
    return files("rstbench.report").joinpath("paper_tables.csv").read_bytes()


@lru_cache(maxsize=1)
def paper_rows() -> tuple[PaperRow, ...]:
    """All values, in the order of the csv."""
    rows = csv.DictReader(io.StringIO(paper_csv().decode("utf-8")))
    return tuple(PaperRow({name: row[name] for name in IDENTITY}, row["value"]) for row in rows)


def paper_frame() -> Any:
    """All values as a `pandas.DataFrame`: the csv's columns as text, and the value once more as a float, `number`."""
    import pandas as pd

    frame = pd.DataFrame([{**row.columns, "value": row.value} for row in paper_rows()], dtype=str)
    frame["number"] = frame["value"].astype(float)
    return frame


def paper_value(columns: Mapping[str, str]) -> PaperRow | None:
    """The value that a cell with these `IDENTITY` columns answers, or None. Other columns (`variant`) do not count.

    Numbers are compared as numbers ("0.4" is "0.40"), candidate sets in any order. A cell without attack may leave norm
    and eps empty where the paper repeats the epsilon of training; if several values then fit, it answers none.
    """
    if not columns.get("table"):
        return None
    names: tuple[str, ...] = IDENTITY
    if columns.get("attack") == "none":
        names = tuple(name for name in IDENTITY if name not in ("norm", "eps") or columns.get(name))
    found = _rows_by(names).get(tuple(comparable(name, columns.get(name, "")) for name in names), ())
    return found[0] if len(found) == 1 else None


@lru_cache(maxsize=8)
def _rows_by(names: tuple[str, ...]) -> Mapping[tuple[object, ...], tuple[PaperRow, ...]]:
    """The paper's rows by what their columns `names` compare by."""
    rows: dict[tuple[object, ...], tuple[PaperRow, ...]] = {}
    for row in paper_rows():
        key = tuple(comparable(name, row.columns[name]) for name in names)
        rows[key] = (*rows.get(key, ()), row)
    return rows


@lru_cache(maxsize=4096)
def comparable(name: str, text: str) -> object:
    """A cell of column `name` so that equal numbers are equal, and the order of a candidate set does not count."""
    if name not in _NUMBERS:
        return text
    try:
        return tuple(sorted(Decimal(number) for number in text.split()))
    except InvalidOperation:
        return text


def render_paper(format: Format = "table", table: int | None = None) -> str:
    """The reference values as text: csv (unchanged lines), Markdown, or aligned columns; of one table or of all.

    Raises `SpecError` for a table that the paper does not have.
    """
    tables = list(dict.fromkeys(row.columns["table"] for row in paper_rows()))
    if table is not None and str(table) not in tables:
        raise SpecError(f"the paper has no table {table} of accuracies; it has {', '.join(tables)}")
    if format == "csv":
        lines = paper_csv().decode("utf-8").splitlines(keepends=True)
        return "".join(line for i, line in enumerate(lines) if i == 0 or table is None or line.startswith(f"{table},"))
    shown = [str(table)] if table is not None else tables
    return "\n".join(_render_one(name, format) for name in shown)


def _render_one(table: str, format: Format) -> str:
    rows = [row for row in paper_rows() if row.columns["table"] == table]
    # A column without any entry tells nothing.
    names = [name for name in IDENTITY if name != "table" and any(row.columns[name] for row in rows)]
    lines = [[*names, "value"], *([*(row.columns[name] for name in names), row.value] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    # Values are numbers with two decimals, so they stand right; the rest is text.
    padded = [
        [cell.rjust(width) if i == len(names) else cell.ljust(width) for i, (cell, width) in enumerate(pairs)]
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    ]
    if format == "markdown":
        rule = ["-" * width for width in widths[:-1]] + ["-" * (widths[-1] - 1) + ":"]
        body = ["| " + " | ".join(line) + " |" for line in (padded[0], rule, *padded[1:])]
        return "\n".join([f"## Table {table}", "", *body, ""])
    rule = ["-" * width for width in widths]
    return "\n".join([f"Table {table}", *("  ".join(line).rstrip() for line in (padded[0], rule, *padded[1:])), ""])
