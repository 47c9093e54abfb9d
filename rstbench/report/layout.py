"""The printed table: which row of the tidy frame stands where, and what is said around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rstbench.plan import Plan
from rstbench.report.table import HEADLINE
from rstbench.spec.flags import RELIABILITY

_AXES = ("dataset", "network", "defense", "attack")


@dataclass
class Row:
    """A printed row: its labels, the variant it shows (empty: the paper's protocol), its cells by column label."""

    labels: tuple[str, ...]
    variant: str
    cells: dict[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass
class Grid:
    """The printed table: names of the label columns, labels of the columns, rows with variants beneath their row."""

    axes: tuple[str, ...]
    columns: list[str]
    rows: list[Row]


def grid(plan: Plan, frame: Any) -> Grid:
    """Lay the tidy frame out by `table.rows` and `table.columns` of the suite.

    An axis that the suite gives to neither is added to the rows where it takes more than one value. A suite with
    `source` among its rows has what the images were made against there, not in the labels of the columns.
    """
    table = plan.suite.run.table
    apart = "source" in table.rows
    records: list[dict[str, str]] = frame.to_dict("records")
    columns = tuple(table.columns)
    left = [axis for axis in _AXES if axis not in table.rows and axis not in columns]
    axes = (*table.rows, *(axis for axis in left if len({_label(record, axis) for record in records}) > 1))
    rows: dict[tuple[str, ...], dict[str, Row]] = {}
    headers: dict[str, None] = {}
    for record in records:
        labels = tuple(_label(record, axis) for axis in axes)
        named = {**record, "attack_source": ""} if apart else record
        header = ", ".join(_label(named, axis) for axis in columns)
        headers.setdefault(header)
        variants = rows.setdefault(labels, {})
        variants.setdefault(record["variant"], Row(labels, record["variant"])).cells[header] = record
    ordered = [
        row for variants in rows.values() for row in sorted(variants.values(), key=lambda row: row.variant != "")
    ]
    return Grid(axes, _by_first_axis(list(headers)), ordered)


def _by_first_axis(headers: list[str]) -> list[str]:
    # Columns of one data set stand together, whatever the order of the cells.
    groups = list(dict.fromkeys(header.split(", ")[0] for header in headers))
    return sorted(headers, key=lambda header: groups.index(header.split(", ")[0]))


def _label(record: Mapping[str, str], axis: str) -> str:
    if axis == "defense":
        return defense_label(record)
    if axis == "attack":
        return attack_label(record)
    return record["attack_source" if axis == "source" else axis]


def defense_label(record: Mapping[str, str]) -> str:
    """A defense with its ratios, e.g. "r2s (0.05 0.10)"."""
    parts = (record["defense"], record["ratio"], f"({record['candidate_set']})" if record["candidate_set"] else "")
    return " ".join(part for part in parts if part)


METRICS = {
    "params_m": "parameters (M)",
    "bytes": "bytes",
    "feature_distance": "feature distance",
    "mask_overlap": "mask overlap",
}
"""How the metrics of measures are printed, with their unit; another name that a suite gives is printed as it is."""


def attack_label(record: Mapping[str, str]) -> str:
    """An attack with its budget and source, e.g. "pgd20 linf 8"; "natural" for none.

    Of a measure, which has no attack, its metric: "parameters (M)".
    """
    metric = METRICS.get(record["metric"], record["metric"])
    parts = ["natural" if record["attack"] == "none" else record["attack"] or metric]
    parts += [record[name] for name in ("norm", "eps") if record[name]]
    if record["attack_source"]:
        parts.append(f"from {record['attack_source']}")
    return " ".join(parts)


def reliability_flags(record: Mapping[str, str]) -> list[str]:
    """The reliability flags of a row of table.csv or battery.csv, in the order of columns."""
    flags = record["flags"].split()
    return [flag for flag in RELIABILITY if flag in flags]


def letter(flag: str) -> str:
    """The letter that stands for a reliability flag in every table."""
    return "abcdefghijklmnopqrstuvwxyz"[list(RELIABILITY).index(flag)]


def flag_mark(record: Mapping[str, str]) -> str:
    """What stands after a number that a reliability flag concerns, e.g. "†bg"; empty if none does."""
    letters = "".join(map(letter, reliability_flags(record)))
    return f"†{letters}" if letters else ""


def grouped(text: str) -> str:
    """A number of table.csv for people: whole numbers, which are counts, in groups of three digits."""
    # No-break spaces: a number broken over two lines is two numbers.
    return f"{int(text):,}".replace(",", "\N{NO-BREAK SPACE}") if text.isdecimal() else text


def cell_text(record: Mapping[str, str] | None, strong: str = "") -> str:
    """What a printed cell says: ours with its interval, the paper's value, the difference where it may be taken.

    strong: what stands before and after the number of a headline, e.g. "**" in Markdown. Reliability flags mark it.
    """
    if record is None:
        return ""
    mark = strong if HEADLINE in record["flags"].split() else ""
    number = f"{mark}{grouped(record['ours'])}{mark}{flag_mark(record)}"
    between = f" [{grouped(record['ci_low'])}, {grouped(record['ci_high'])}]" if record["ci_low"] else ""
    ours = f"{number}{between}" if record["ours"] else "not run"
    if not record["value"]:
        return ours
    signed = record["difference"] if record["difference"].startswith("-") else f"+{record['difference']}"
    return f"{ours}; paper {record['value']}" + (f" ({signed})" if record["difference"] else "")
