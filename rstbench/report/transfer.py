"""Beside the table: the transfer matrices, long, with the overlap of masks where it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rstbench.plan import Plan, PlannedCell
from rstbench.report.measure import CellResult, measure_plan
from rstbench.report.quantity import quantity_text
from rstbench.report.reliability import through_members
from rstbench.report.table import KEY, key_columns, percent
from rstbench.store import Store

TRANSFER = (*KEY, "source", "member", "accuracy", "n", "seeds", "overlap")
"""The columns of transfer.csv. accuracy: of `member` on images made against `source`, percent, mean over seeds.

Sources of an adversary that chooses among attacks are all sources of these attacks, and the clean images. overlap:
|A and B| / |A or B| of the masks of source and member, mean over seeds, where sources are the members themselves and
the suite measures `mask_overlap` of the defense; blank elsewhere.
"""


def transfer(plan: Plan, store: Store, results: Sequence[CellResult] | None = None) -> Any:
    """A `pandas.DataFrame` with the columns `TRANSFER`, all text: cells of several members that were run."""
    import pandas as pd

    results = results if results is not None else measure_plan(plan, store)
    overlaps = {_switch(r.cell): r.quantity.pairs for r in results if r.quantity is not None and r.quantity.pairs}
    rows = []
    for result in results:
        cell, measured = result.cell, result.measurement
        if measured is None or len(cell.members) == 1:
            continue
        shared = overlaps.get(_switch(cell), {}) if through_members(cell) else {}
        fixed = {"n": str(measured.n), "seeds": " ".join(map(str, cell.seeds))}
        rows += [
            {
                **key_columns(cell),
                "source": source,
                "member": member,
                "accuracy": percent(measured.matrix[s, m]),
                **fixed,
                "overlap": quantity_text("mask_overlap", 1.0 if s == m else shared[s, m]) if shared else "",
            }
            for s, source in enumerate(cell.sources)
            for m, member in enumerate(cell.members)
        ]
    return pd.DataFrame(rows, columns=list(TRANSFER), dtype=str)


def _switch(cell: PlannedCell) -> tuple[object, ...]:
    names = ("dataset", "network", "defense", "candidate_set")
    return (cell.defense, cell.members, *(cell.columns[name] for name in names))
