"""The printed table: which row of the tidy frame stands where, and what is said around it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rstbench.plan import Plan, label_of
from rstbench.report.statistics import LEVEL
from rstbench.report.table import DATA_NOTES, HEADLINE, NOT_RUN, Counts

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

    An axis that the suite gives to neither is added to the rows where it takes more than one value.
    """
    table = plan.suite.run.table
    records: list[dict[str, str]] = frame.to_dict("records")
    columns = tuple(table.columns)
    left = [axis for axis in _AXES if axis not in table.rows and axis not in columns]
    axes = (*table.rows, *(axis for axis in left if len({_label(record, axis) for record in records}) > 1))
    rows: dict[tuple[str, ...], dict[str, Row]] = {}
    headers: dict[str, None] = {}
    for record in records:
        labels = tuple(_label(record, axis) for axis in axes)
        header = ", ".join(_label(record, axis) for axis in columns)
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
        parts = (record["defense"], record["ratio"], f"({record['candidate_set']})" if record["candidate_set"] else "")
        return " ".join(part for part in parts if part)
    if axis == "attack":
        return attack_label(record)
    return record[axis]


def attack_label(record: Mapping[str, str]) -> str:
    """An attack with its budget and source, e.g. "pgd20 linf 8"; "natural" for none."""
    parts = ["natural" if record["attack"] == "none" else record["attack"] or record["metric"]]
    parts += [record[name] for name in ("norm", "eps") if record[name]]
    if record["attack_source"]:
        parts.append(f"from {record['attack_source']}")
    return " ".join(parts)


def cell_text(record: Mapping[str, str] | None, strong: str = "") -> str:
    """What a printed cell says: ours with its interval, the paper's value, the difference where it may be taken.

    strong: what stands before and after the number of a headline, e.g. "**" in Markdown.
    """
    if record is None:
        return ""
    mark = strong if HEADLINE in record["flags"].split() else ""
    ours = f"{mark}{record['ours']}{mark} [{record['ci_low']}, {record['ci_high']}]" if record["ours"] else "not run"
    if not record["value"]:
        return ours
    signed = record["difference"] if record["difference"].startswith("-") else f"+{record['difference']}"
    return f"{ours}; paper {record['value']}" + (f" ({signed})" if record["difference"] else "")


def substituted(plan: Plan) -> list[str]:
    """What the profile runs in place of the suite's own setting, as clauses; empty if nothing."""
    paper, run = plan.suite.paper, plan.suite.run
    clauses: list[str] = []
    for flag, axis, before, after in (
        ("substitute:data", "dataset", paper.datasets, run.datasets),
        ("substitute:network", "network", paper.networks, run.networks),
    ):
        names = dict.fromkeys(cell.columns[axis] for cell in plan.cells)
        if _flagged(plan, flag):
            changed = [n for n in names if n in before and before[n] != after[n]]
            # The same source cut otherwise has the same label.
            pairs = [
                f"{n} -> {label_of(after[n])}" if label_of(after[n]) != n else f"{n} (cut otherwise)" for n in changed
            ]
            clauses.append(f"{'data' if flag.endswith('data') else 'networks'} {', '.join(pairs)}")
    schedules = [cell.columns["defense"] for cell in plan.cells if "substitute:schedule" in cell.substitutes]
    if schedules:
        clauses.append(f"the training or search schedule of {', '.join(dict.fromkeys(schedules))}")
    attacks = [cell.attack_key for cell in plan.cells if "substitute:attack" in cell.substitutes]
    if attacks:
        clauses.append(f"settings of the attack {', '.join(dict.fromkeys(attacks))}")
    if _flagged(plan, "substitute:seeds"):
        clauses.append(f"seeds {' '.join(map(str, run.seeds))} for {' '.join(map(str, paper.seeds))}")
    defenses = [cell.columns["defense"] for cell in plan.cells if "substitute:defense" in cell.substitutes]
    if defenses:
        clauses.append(f"settings of the defense {', '.join(dict.fromkeys(defenses))}")
    return clauses


def _flagged(plan: Plan, flag: str) -> bool:
    return any(flag in cell.substitutes for cell in plan.cells)


def count_sentences(answering: Counts, further: Counts) -> list[str]:
    """The three counts, for cells that answer the paper and for further rows, each in a sentence."""
    sentences = []
    for what, where, counts in (
        ("Cells that answer the paper", "in the paper's setting", answering),
        ("Further rows (variants, or not in the paper)", "exactly as declared", further),
    ):
        if counts.declared:
            sentences.append(
                f"{what}: {counts.declared} declared; {counts.with_substitutes} run with substitutes; "
                f"{counts.as_declared} run {where}."
            )
    return sentences


_INTERVALS = {
    "wilson": "Wilson's interval (one deterministic defense, every image right or wrong): covers the choice of test "
    "images, not what another seed would give",
    "bootstrap": "percentile bootstrap over images (scores are means over members): covers the choice of test images, "
    "not what another seed would give",
    "t over seeds": "Student's t over the means of the seeds: covers what other seeds would give on these images",
}


def interval_sentence(kinds: Iterable[str]) -> str:
    """What the brackets mean, for the kinds of interval that occur; empty if none does."""
    clauses = [text for kind, text in _INTERVALS.items() if kind in set(kinds)]
    if not clauses:
        return ""
    return f"Brackets hold {100 * LEVEL:.0f} % intervals. " + " ".join(f"{c[0].upper()}{c[1:]}." for c in clauses)


_LEGEND = {
    HEADLINE: "the row that rstbench stands behind, in bold",
    NOT_RUN: "not all of its results are in the store",
    DATA_NOTES: "remarks on the data apply; they stand above, and in details.csv",
    "substitute:data": "another data set than the suite's own setting",
    "substitute:network": "another network, or another width",
    "substitute:schedule": "another training or search schedule",
    "substitute:defense": "other settings of the defense, such as its ratios",
    "substitute:attack": "other settings of the attack, or fewer test images",
    "substitute:seeds": "other seeds",
}
_HALVED = re.compile(r"batch:halved_to_(\d+)")


def legend(frame: Any) -> list[tuple[str, str]]:
    """The flags that occur in the frame, and what each means."""
    occurring = sorted({flag for flags in frame["flags"] for flag in flags.split()})
    return [(flag, _meaning(flag)) for flag in occurring]


def _meaning(flag: str) -> str:
    halved = _HALVED.fullmatch(flag)
    if halved:
        return f"memory was short: batches of {halved[1]} images, so last bits may differ"
    return _LEGEND.get(flag, "see the record of the node in the store")
