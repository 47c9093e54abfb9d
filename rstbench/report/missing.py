"""What to say where the store lacks cells that somebody asks to see."""

from __future__ import annotations

from collections.abc import Sequence

from rstbench.plan import Plan, PlannedCell
from rstbench.report.measure import describe
from rstbench.store import Store

_NAMED = 8
"""Missing cells that a message names, before it only counts."""


def lacking(plan: Plan, store: Store, missing: Sequence[PlannedCell], of: int, command: str) -> str:
    """Which of so many (`of`) cells are missing, and the command that computes them."""
    named = [f"\n  {describe(cell)}" for cell in missing[:_NAMED]]
    more = f"\n  and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return (
        f"suite {plan.suite.run.name}, profile {plan.suite.profile}: {len(missing)} of {of} cells are not in the store "
        f"{store.root}:{''.join(named)}{more}\ncompute them with: {command}"
    )
