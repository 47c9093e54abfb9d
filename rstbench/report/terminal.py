"""The table on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rstbench.plan import Plan
from rstbench.report.layout import cell_text, count_sentences, grid
from rstbench.report.markdown import setting_sentence
from rstbench.report.table import Counts

if TYPE_CHECKING:
    from rich.console import Console


def terminal(plan: Plan, frame: Any, answering: Counts, further: Counts, console: Console) -> None:
    """Print the frame of `tidy` in the suite's layout, what was substituted, and the counts. Headlines are bold."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    layout = grid(plan, frame)
    table = Table(title=escape(plan.suite.run.title), box=box.SIMPLE_HEAD, title_justify="left")
    with_variants = any(row.variant for row in layout.rows)
    for axis in (*layout.axes, *(["variant"] if with_variants else [])):
        table.add_column(axis, overflow="fold")
    for column in layout.columns:
        table.add_column(escape(column), overflow="fold")
    for row in layout.rows:
        cells = []
        for column in layout.columns:
            record = row.cells.get(column)
            # The paper's value stands on a line of its own: columns stay narrow.
            text = escape(cell_text(record)).replace("; paper", "\npaper")
            headline = record is not None and "headline" in record["flags"].split()
            cells.append(f"[bold]{text}[/bold]" if headline and text else text)
        labels = [escape(label) for label in row.labels]
        table.add_row(*labels, *([escape(row.variant)] if with_variants else []), *cells)
    console.print(table)
    console.print(f"Profile {plan.suite.profile}. " + setting_sentence(plan), markup=False, highlight=False)
    for sentence in count_sentences(answering, further):
        console.print(sentence, markup=False, highlight=False)
