"""A check on a terminal, and the answer of --power."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rstbench.report.regression.options import Options
from rstbench.report.regression.planning import Needed, smallest
from rstbench.report.regression.verdicts import Check, Verdict, worst_first
from rstbench.report.regression.words import HEAD, cells, method, outcome, remarks, unchanged

if TYPE_CHECKING:
    from rich.console import Console

_NAMED = 5
_STYLE = {Verdict.worse: "bold red", Verdict.better: "green", Verdict.missing: "yellow"}


def _plain(text: str) -> str:
    """Without control characters: names in a CSV may be anybody's, and terminals and CI logs obey them."""
    return "".join(c if c.isprintable() else " " for c in text)


def show(check: Check, console: Console) -> None:
    """Print the rows, those where nothing changed only as their number; then what it comes to."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    still = [row for row in check.rows if row.measured is not None and row.measured.identical]
    table = Table(
        title=escape(_plain(f"{check.baseline.name} -> {check.new.name}")), box=box.SIMPLE_HEAD, title_justify="left"
    )
    for name in HEAD:
        table.add_column(name, overflow="fold", no_wrap=name in ("verdict", "before", "now", "n", "p"))
    unmatched = check.of(Verdict.new)
    for row in worst_first([row for row in check.rows if row not in still and row not in unmatched]):
        table.add_row(*(escape(_plain(cell)) for cell in cells(row)), style=_STYLE.get(row.verdict, ""))
    if table.row_count:
        console.print(table)
    lines = [*remarks(check), method(check)]
    if still:
        lines.append(unchanged(len(still)))
    if unmatched:
        more = f" and {len(unmatched) - _NAMED} more" if len(unmatched) > _NAMED else ""
        lines.append(f"new, without a counterpart: {'; '.join(row.label for row in unmatched[:_NAMED])}{more}.")
    for line in (*lines, outcome(check)):
        console.print(_plain(line), markup=False, highlight=False, soft_wrap=True)


def show_power(found: Sequence[Needed], drop: float, options: Options, console: Console) -> None:
    """Print how many images are needed to see a drop, and for what."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    say(
        f"How many test images it takes to see a drop of {drop:g} points with chance {options.power:g} "
        f"(two-sided, alpha {options.alpha:g}):"
    )
    table = Table(box=box.SIMPLE_HEAD)
    rows = any(each.label for each in found)
    head = ("images that differ", "basis", "needed", f"needed to show no change within {options.margin:g}")
    for name in (*(["row"] if rows else []), *head, *(["n now", "chance now"] if rows else [])):
        table.add_column(name, overflow="fold")
    for each in found:
        cells = [f"{100 * each.discordant:.2f} %", each.basis, _many(each.images), _many(each.same)]
        more = ["" if each.n is None else str(each.n), "" if each.power is None else f"{each.power:.2f}"]
        table.add_row(*([escape(_plain(each.label))] if rows else []), *cells, *(more if rows else []))
    console.print(table)
    most = smallest(found)
    if rows and most is not None:
        say(f"{most} images are enough for each of {len(found)} rows.")
    say(
        "Exact McNemar for 0/1 scores. Images that differ: those whose verdict is another, the drop included; of "
        "fractional scores, the mean square of the differences, and the number is approximate."
        + (f" Each row is held against alpha / {len(found)}, as Holm's correction would at worst." if rows else "")
    )


def _many(images: int | None) -> str:
    return "more than any test set has" if images is None else str(images)
