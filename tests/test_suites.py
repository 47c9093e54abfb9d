"""What the shipped suites answer of the paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from rstbench.report.paper import paper_rows
from rstbench.report.table import answered
from tests.suites import SHIPPED, planned

TABLES = [path for path in SHIPPED if path.stem.startswith("table")]


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_value_of_a_table_is_answered_once(path: Path) -> None:
    made = planned(path, "paper")
    number = str(made.suite.run.table.paper)
    assert path.stem.startswith(f"table{number}_")
    found = [row.columns for row in map(answered, made.cells) if row is not None]
    unanswered = [row.columns for row in paper_rows() if row.columns["table"] == number and row.columns not in found]
    # How the authors ran AutoAttack on a random switch is not stated: no variant of ours is called theirs.
    assert {(row["defense"], row["attack"]) for row in unanswered} <= {("r2s", "autoattack")}
    assert len(unanswered) == (4 if number == "4" else 0)
    assert len({tuple(row.items()) for row in found}) == len(found)
