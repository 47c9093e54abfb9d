"""table.md: the table for people, with what it takes to read it rightly."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any

from rstbench.plan import Plan
from rstbench.report.layout import Grid, attack_label, cell_text, defense_label, grid, letter
from rstbench.report.legend import (
    count_sentences,
    interval_sentence,
    legend,
    measure_sentences,
    score_sentences,
    setting_sentence,
)
from rstbench.report.listing import Block, listing
from rstbench.report.table import KEY, Counts, key_columns
from rstbench.spec.flags import RELIABILITY


def markdown(
    plan: Plan, frame: Any, details: Any, matrices: Any, battery: Any, answering: Counts, further: Counts
) -> str:
    """The page, from the frames of `tidy`, `details`, `transfer` and `battery`. Equal frames give equal text."""
    suite = plan.suite
    parts = [f"# {suite.run.title}", suite.run.description.strip()]
    if suite.run.table.layout == "list":
        parts += _list(listing(frame, battery, strong="**"))
        parts.append(
            "Mean distance: of all images as crafted. Used for an image: queries up to its success, of fooled images, "
            "or passes through one network. Time: wall time of crafting, in all; lines that share images share it."
        )
    else:
        parts.append(_table(grid(plan, frame)))
    accuracies = any(cell.predictions for cell in plan.cells)
    parts.append((("Accuracies in percent." if accuracies else "") + _sizes(frame)).strip())
    parts.append("\n".join(f"- {sentence}" for sentence in measure_sentences(plan)))
    parts.append(interval_sentence(details["interval"]))
    parts += score_sentences(plan)
    parts.append(f"Profile `{suite.profile}`. " + setting_sentence(plan))
    parts.append("\n".join(f"- {sentence}" for sentence in count_sentences(answering, further)))
    notes = list(dict.fromkeys(note for text in details["notes"] if text for note in text.split("; ")))
    if notes:
        parts.append("Notes on the data: " + "; ".join(notes) + ".")
    parts += _chosen(plan, details)
    parts += _matrices(plan, matrices)
    flags = legend(frame)
    if flags:
        parts.append("## Flags")
        parts.append("\n".join(f"- {_name(flag)}: {meaning}" for flag, meaning in flags))
    return "\n\n".join(part for part in parts if part) + "\n"


_PAIRS = 6
"""Ordered pairs of three members: fewer have no rank correlation to speak of."""


def escape(text: str) -> str:
    """Text that a Markdown table cell shows as it is."""
    return text.replace("|", "\\|").replace("\n", " ")


def _name(flag: str) -> str:
    return f"`{flag}`" + (f" (†{letter(flag)})" if flag in RELIABILITY else "")


def _sizes(frame: Any) -> str:
    if not any(frame["ours"]):
        return " Nothing has been run yet."
    sizes = sorted({int(n) for n in frame["n"] if n})
    seeds = list(dict.fromkeys(frame["seeds"]))
    images = " or ".join(f"{n:,}".replace(",", " ") for n in sizes)
    return (f" Test images: {images}." if sizes else "") + f" Seeds: {' or '.join(seeds)}."


def _table(layout: Grid) -> str:
    with_variants = any(row.variant for row in layout.rows)
    head = [*layout.axes, *(["variant"] if with_variants else []), *layout.columns]
    lines = [head, ["---"] * len(head)]
    for row in layout.rows:
        # Beneath its row, a variant's labels are the same; repeating them keeps every line readable on its own.
        cells = [cell_text(row.cells.get(column), strong="**") for column in layout.columns]
        lines.append([*row.labels, *([row.variant] if with_variants else []), *cells])
    return _lines(lines)


def _list(blocks: Sequence[Block]) -> list[str]:
    parts = []
    for block in blocks:
        lines = [list(block.head), ["---"] * len(block.head), *(list(line.texts) for line in block.lines)]
        parts += [f"### {block.title}", _lines(lines)]
    return parts


def _lines(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines)


def _heading(row: dict[str, str]) -> str:
    words = f"{defense_label(row)} on {row['dataset']}, {row['network']}, {attack_label(row)}"
    return words + (f", {row['variant']}" if row["variant"] else "")


def _chosen(plan: Plan, details: Any) -> list[str]:
    """Whom the adversary, and what the defense, has chosen: worst sources and mixtures."""
    seeds = [cell for cell in plan.cells for _ in cell.seeds]
    lines = []
    for cell, row in zip(seeds, details.to_dict("records"), strict=True):
        where = f"- {_heading(row)}, seed {row['seed']}: "
        if row["worst_source"]:
            lines.append(where + f"worst source {row['worst_source']}")
        if row["mixture"]:
            shares = zip(cell.members, row["mixture"].split(), strict=True)
            lines.append(where + "mixture " + ", ".join(f"{member}: {share}" for member, share in shares))
    return ["## Chosen sources and mixtures", "\n".join(lines)] if lines else []


def _overlap(group: Any) -> str:
    """How transfer goes with the overlap of masks, where that was measured of three members or more."""
    pairs = group[(group["source"] != group["member"]) & (group["overlap"] != "")]
    if len(pairs) < _PAIRS:
        return ""
    shared, accuracy = pairs["overlap"].astype(float), pairs["accuracy"].astype(float)
    rank = shared.rank().corr(accuracy.rank())  # Spearman's
    said = f" Overlap of masks between {shared.min():.3f} and {shared.max():.3f}"
    return f"{said}; rank correlation with the transferred accuracies {rank:.2f}." if not isnan(rank) else f"{said}."


def _matrices(plan: Plan, matrices: Any) -> list[str]:
    # One row for each source only where the sources are networks: tables of all attacks' sources help nobody.
    shown = {
        tuple(key_columns(cell)[name] for name in KEY)
        for cell in plan.cells
        if cell.score == "mean" and len(cell.sources) > 1
    }
    parts: list[str] = []
    for key, group in matrices.groupby(list(KEY), sort=False):
        if key not in shown:
            continue
        members = list(dict.fromkeys(group["member"]))
        sources = list(dict.fromkeys(group["source"]))
        value = {(row["source"], row["member"]): row["accuracy"] for row in group.to_dict("records")}
        lines = [["source", *members], ["---", *["---:"] * len(members)]]
        lines += [[source, *(value[source, member] for member in members)] for source in sources]
        first = group.iloc[0].to_dict()
        parts += [f"### {_heading(first)}", _lines(lines)]
        if sources == members and not first["attack_source"]:
            own = [float(value[member, member]) for member in members]
            other = [float(value[s, m]) for s in sources for m in members if s != m]
            parts.append(
                f"Mean on the diagonal (attacked itself) {sum(own) / len(own):.2f}, "
                f"off it (transferred) {sum(other) / len(other):.2f}." + _overlap(group)
            )
    if not parts:
        return []
    return [
        "## Members and transfer",
        "Accuracy of each member (column) on images made against each source (row). The mean over all entries, "
        "weighted by the members' probabilities, is the defense's accuracy.",
        *parts,
    ]
