"""The table on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rstbench.plan import Plan
from rstbench.report.layout import cell_text, grid
from rstbench.report.legend import count_sentences, marks, measure_sentences, score_sentences, setting_sentence
from rstbench.report.listing import listing
from rstbench.report.table import HEADLINE, Counts

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def terminal(plan: Plan, frame: Any, answering: Counts, further: Counts, console: Console, battery: Any = None) -> None:
    """Print the frame of `tidy` in the suite's layout, what was substituted, and the counts. Headlines are bold.

    battery: the frame of `battery.battery`, for layout `list`; without it the table is printed as a grid.
    """
    listed = battery is not None and plan.suite.run.table.layout == "list"
    for table in _listed(plan, frame, battery) if listed else [_grid(plan, frame)]:
        console.print(table)
    said = [f"Profile {plan.suite.profile}. " + setting_sentence(plan), *count_sentences(answering, further)]
    for sentence in (*marks(frame), *measure_sentences(plan), *score_sentences(plan), *said):
        console.print(sentence, markup=False, highlight=False)


def _new(title: str) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    return Table(title=escape(title), box=box.SIMPLE_HEAD, title_justify="left")


def _grid(plan: Plan, frame: Any) -> Table:
    from rich.markup import escape

    layout = grid(plan, frame)
    table = _new(plan.suite.run.title)
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
            headline = record is not None and HEADLINE in record["flags"].split()
            cells.append(f"[bold]{text}[/bold]" if headline and text else text)
        labels = [escape(label) for label in row.labels]
        table.add_row(*labels, *([escape(row.variant)] if with_variants else []), *cells)
    return table


def _listed(plan: Plan, frame: Any, battery: Any) -> list[Table]:
    from rich.markup import escape

    tables = []
    for block in listing(frame, battery):
        table = _new(f"{plan.suite.run.title}: {block.title}")
        for name in block.head:
            table.add_column(name, overflow="fold")
        for line in block.lines:
            cells = [escape(text).replace("; paper", "\npaper") for text in line.texts]
            table.add_row(*cells, style="bold" if HEADLINE in line.record["flags"].split() else "")
        tables.append(table)
    return tables
