"""The tidy table: one row a cell, ours beside the paper's. `table.csv` is this frame; others rely on its columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from rstbench.errors import SpecError
from rstbench.plan import Plan, PlannedCell
from rstbench.report.measure import CellResult, Records, keys_behind, measure_plan
from rstbench.report.paper import IDENTITY, PaperRow, paper_value
from rstbench.report.reliability import reliability
from rstbench.report.setting import require_one_setting
from rstbench.spec.flags import RELIABILITY
from rstbench.store import Store

KEY = (*IDENTITY, "variant")
"""The columns that are unique to a row."""

COLUMNS = (
    *IDENTITY, "value", "variant", "ours", "difference", "ci_low", "ci_high", "n", "seeds",
    "profile", "run_dataset", "run_network", "run_eps", "flags",
)  # fmt: skip
"""The columns of table.csv, in order."""

HEADLINE = "headline"
NOT_RUN = "not_run"
DATA_NOTES = "data:notes"
_OTHER_NETWORK_OR_DATA = {"substitute:network", "substitute:data"}


@dataclass(frozen=True)
class Counts:
    """Cells of a table. The three numbers are never added up to one: they are not the same kind of evidence.

    with_substitutes: run, but with other data, networks, attacks, schedules or seeds than the suite's own setting.
    as_declared: run exactly as declared; for a cell that answers the paper, that is the paper's setting.
    """

    declared: int
    with_substitutes: int
    as_declared: int

    @property
    def not_run(self) -> int:
        """Cells without a result."""
        return self.declared - self.with_substitutes - self.as_declared


def tidy(plan: Plan, store: Store, results: Sequence[CellResult] | None = None) -> Any:
    """A `pandas.DataFrame` with `COLUMNS`, all text, one row for each cell in the plan's order; blank where not run.

    Accuracies are percentages with two decimals, other measures as `quantity.quantity_text` has them. `difference` is
    ours as printed minus the paper's, so that the row adds up, and blank unless data set, network and epsilon are the
    paper's. results: of `measure_plan`, if at hand.
    Raises `SpecError` if two cells have the same `KEY` or one data set stands for different data, `StoreError` if
    stored values are damaged.
    """
    import pandas as pd

    require_one_setting([plan])
    records = Records(plan, store)
    rows: list[dict[str, str]] = []
    seen: dict[tuple[str, ...], PlannedCell] = {}
    results = results if results is not None else measure_plan(plan, store)
    for result, compared in zip(results, reliability(results, plan.suite.run.attacks, plan.nodes), strict=True):
        row = _row(plan, result, flags(result, records) | compared)
        key = tuple(row[name] for name in KEY)
        if key in seen:
            words = ", ".join(f"{name} {value}" for name, value in zip(KEY, key, strict=True) if value)
            raise SpecError(
                f"suite {plan.suite.run.name}: two cells are the same row of the table ({words}); "
                "give the attack of one of them a `variant`, or its defense another `report_as`"
            )
        seen[key] = result.cell
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=str)


def key_columns(cell: PlannedCell) -> dict[str, str]:
    """The cell's `KEY` columns, in the paper's own words where the paper has such a cell (eps "2.0", not "2")."""
    paper = paper_value(cell.columns)
    return {**cell.columns, **(paper.columns if paper else {})}


def answered(cell: PlannedCell) -> PaperRow | None:
    """The paper's value that the cell answers; None for a variant, and for a cell that the paper does not have."""
    return None if cell.columns["variant"] else paper_value(cell.columns)


def _row(plan: Plan, result: CellResult, flags: Iterable[str]) -> dict[str, str]:
    cell, paper = result.cell, answered(result.cell)
    row = dict.fromkeys(COLUMNS, "") | key_columns(cell) | dict(cell.run)
    row |= {
        "value": paper.value if paper else "",
        "seeds": " ".join(map(str, cell.seeds)),
        "profile": str(plan.suite.profile),
        "flags": " ".join(sorted(flags)),
    }
    if result.value is not None:
        text = percent if result.quantity is None else result.quantity.text
        row |= {"ours": text(result.value), "n": "" if result.n is None else str(result.n)}
        if result.interval is not None:
            row |= {"ci_low": text(result.interval.low), "ci_high": text(result.interval.high)}
        if paper is not None and _comparable(cell):
            row["difference"] = f"{Decimal(row['ours']) - Decimal(paper.value):.2f}"
    return row


def percent(value: float) -> str:
    """A percentage with two decimals, as every table prints it."""
    return f"{value + 0.0:.2f}"


def _comparable(cell: PlannedCell) -> bool:
    return (
        cell.run["run_dataset"] == cell.columns["dataset"]
        and not _OTHER_NETWORK_OR_DATA & set(cell.substitutes)
        and same_number(cell.run["run_eps"], cell.columns["eps"])
    )


def same_number(one: str, other: str) -> bool:
    """Whether two texts are the same number, as "2.0" and "2" are, or the same text."""
    return _number(one) == _number(other)


def _number(text: str) -> Decimal | str:
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


def flags(result: CellResult, records: Records) -> set[str]:
    """The row's own flags: substitutes, headline, not run, notes of the data, and what its nodes have recorded."""
    cell = result.cell
    found = set(cell.substitutes)
    if cell.headline:
        found.add(HEADLINE)
    if not result.done:
        found.add(NOT_RUN)
    for position in range(len(cell.seeds)):
        for key in records.nodes(keys_behind(cell, position)):
            record: Mapping[str, Any] = records.record(key)
            found.update(map(str, record.get("flags", ())))
            if record.get("notes"):
                found.add(DATA_NOTES)
    return found if cell.score not in ("pointwise", "game") else found - _set_aside(cell, records)


def _set_aside(cell: PlannedCell, records: Records) -> set[str]:
    """Reliability flags of the images behind an adversary that chooses, which do not concern its own number.

    A worst case inherits the flags of whatever it chooses from: what misleads one attack may mislead others in silence.
    Only those of attacks on a switch as it is queried (view `switch`) are set aside: there randomness is no surprise.
    """
    own: set[str] = set()
    for seed in cell.predictions:
        for label, row in zip(cell.sources, seed, strict=True):
            if not label.endswith("/switch"):
                own |= {str(flag) for key in records.nodes(row) for flag in records.record(key).get("flags", ())}
    return set(RELIABILITY) - own


def count(results: Sequence[CellResult], answering: bool) -> Counts:
    """Counts of the cells that answer the paper, or of the others (variants, and cells the paper does not have)."""
    chosen = [result for result in results if (answered(result.cell) is not None) == answering]
    run = [result for result in chosen if result.done]
    substituted = sum(1 for result in run if result.cell.substitutes)
    return Counts(len(chosen), substituted, len(run) - substituted)
