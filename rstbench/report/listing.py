"""The printed list: for each defense one line an attack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rstbench.report.layout import attack_label, cell_text, defense_label, reliability_flags
from rstbench.report.table import NOT_RUN, same_number

HEAD = ("attack", "variant", "accuracy", "mean distance", "used for an image", "time", "flags")
_WITH_MEASURES = ("attack or measure", "variant", "accuracy or value", *HEAD[3:])


@dataclass(frozen=True)
class Line:
    """One cell: texts under the block's head."""

    record: Mapping[str, str]
    texts: tuple[str, ...]


@dataclass
class Block:
    """A defense on a data set with a network, and its cells in the order of the suite."""

    title: str
    lines: list[Line] = field(default_factory=list)

    @property
    def head(self) -> tuple[str, ...]:
        """`HEAD`, or other words for it where a line is no accuracy."""
        return HEAD if all(line.record["attack"] for line in self.lines) else _WITH_MEASURES


def listing(frame: Any, battery: Any, strong: str = "") -> list[Block]:
    """Blocks in the order in which their defenses first occur; frame: of `tidy`; battery: of `battery.battery`.

    strong: what stands before and after the number of a headline.
    """
    blocks: dict[str, Block] = {}
    for record, measured in zip(frame.to_dict("records"), battery.to_dict("records"), strict=True):
        title = f"{defense_label(record)} on {record['dataset']}, {record['network']}"
        texts = (
            _attack(record),
            record["variant"],
            cell_text(record, strong),
            _distance(measured),
            _effort(measured),
            f"{measured['seconds']} s" if measured["seconds"] else "",
            " ".join([*reliability_flags(record), *_others(record)]),
        )
        blocks.setdefault(title, Block(title)).lines.append(Line(record, texts))
    return list(blocks.values())


def _attack(record: Mapping[str, str]) -> str:
    # Rows keep the name of what the suite declares; here stand measured distances, which would not fit it.
    if not record["run_eps"] or same_number(record["run_eps"], record["eps"]):
        return attack_label(record)
    return f"{attack_label(record)} (run at {record['run_eps']})"


def _others(record: Mapping[str, str]) -> list[str]:
    # What concerns the line alone; what the profile substitutes and notes on the data are said once, below.
    return [flag for flag in record["flags"].split() if flag == NOT_RUN or flag.startswith("batch:")]


def _distance(measured: Mapping[str, str]) -> str:
    if measured["norm"] == "l2":
        median = f", fooled: median {measured['l2_median']}" if measured["l2_median"] else ""
        return f"l2 {measured['l2']}{median}" if measured["l2"] else ""
    return f"linf {measured['linf']}/255" if measured["linf"] else ""


def _effort(measured: Mapping[str, str]) -> str:
    if measured["queries_mean"]:
        return f"{measured['queries_mean']} queries, median {measured['queries_median']}"
    counts = [(measured[name], word) for name, word in (("gradients", "gradients"), ("forwards", "forwards"))]
    return " + ".join(f"{float(count):g} {word}" for count, word in counts if count and float(count) > 0)
