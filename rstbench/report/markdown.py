"""table.md: the table for people, with what it takes to read it rightly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rstbench.plan import Plan
from rstbench.report.layout import (
    Grid,
    attack_label,
    cell_text,
    count_sentences,
    grid,
    interval_sentence,
    legend,
    substituted,
)
from rstbench.report.table import KEY, Counts


def markdown(plan: Plan, frame: Any, details: Any, matrices: Any, answering: Counts, further: Counts) -> str:
    """The page, from the frames of `tidy`, `details` and `transfer`. Equal frames give equal text."""
    suite = plan.suite
    parts = [f"# {suite.run.title}", suite.run.description.strip(), _table(grid(plan, frame))]
    parts.append("Accuracies in percent." + _sizes(frame))
    parts.append(interval_sentence(details["interval"]))
    parts.append(f"Profile `{suite.profile}`. " + setting_sentence(plan))
    parts.append("\n".join(f"- {sentence}" for sentence in count_sentences(answering, further)))
    notes = list(dict.fromkeys(note for text in details["notes"] if text for note in text.split("; ")))
    if notes:
        parts.append("Notes on the data: " + "; ".join(notes) + ".")
    parts += _matrices(matrices)
    flags = legend(frame)
    if flags:
        parts.append("## Flags")
        parts.append("\n".join(f"- `{flag}`: {meaning}" for flag, meaning in flags))
    return "\n\n".join(part for part in parts if part) + "\n"


def setting_sentence(plan: Plan) -> str:
    """What was substituted, in a plain sentence."""
    clauses = substituted(plan)
    if not clauses:
        return "Nothing is substituted: this is the setting that the suite declares."
    return (
        f"In place of the suite's own setting it uses: {'; '.join(clauses)}. "
        "Cells with substitutes are not in the paper's setting, and their numbers no test of its claims."
    )


def escape(text: str) -> str:
    """Text that a Markdown table cell shows as it is."""
    return text.replace("|", "\\|").replace("\n", " ")


def _sizes(frame: Any) -> str:
    sizes = sorted({int(n) for n in frame["n"] if n})
    if not sizes:
        return " Nothing has been run yet."
    seeds = list(dict.fromkeys(frame["seeds"]))
    images = " or ".join(f"{n:,}".replace(",", " ") for n in sizes)
    return f" Test images: {images}. Seeds: {' or '.join(seeds)}."


def _table(layout: Grid) -> str:
    with_variants = any(row.variant for row in layout.rows)
    head = [*layout.axes, *(["variant"] if with_variants else []), *layout.columns]
    lines = [head, ["---"] * len(head)]
    for row in layout.rows:
        # Beneath its row, a variant's labels are the same; repeating them keeps every line readable on its own.
        cells = [cell_text(row.cells.get(column), strong="**") for column in layout.columns]
        lines.append([*row.labels, *([row.variant] if with_variants else []), *cells])
    return _lines(lines)


def _lines(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines)


def _matrices(matrices: Any) -> list[str]:
    if matrices.empty:
        return []
    parts = [
        "## Members and transfer",
        "Accuracy of each member (column) on images made against each source (row). The mean over all entries, "
        "weighted by the members' probabilities, is the defense's accuracy.",
    ]
    for _, group in matrices.groupby(list(KEY), sort=False):
        first = group.iloc[0].to_dict()
        words = [first["defense"], f"({first['candidate_set']})" if first["candidate_set"] else "", "on"]
        words += [f"{first['dataset']}, {first['network']}, {attack_label(first)}"]
        heading = " ".join(word for word in words if word) + (f", {first['variant']}" if first["variant"] else "")
        members = list(dict.fromkeys(group["member"]))
        sources = list(dict.fromkeys(group["source"]))
        value = {(row["source"], row["member"]): row["accuracy"] for row in group.to_dict("records")}
        lines = [["source", *members], ["---", *["---:"] * len(members)]]
        lines += [[source, *(value[source, member] for member in members)] for source in sources]
        parts += [f"### {heading}", _lines(lines)]
        if sources == members:
            own = [float(value[member, member]) for member in members]
            other = [float(value[s, m]) for s in sources for m in members if s != m]
            parts.append(
                f"Mean on the diagonal (attacked itself) {sum(own) / len(own):.2f}, "
                f"off it (transferred) {sum(other) / len(other):.2f}."
            )
    return parts
