"""What the shipped suites answer of the paper."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from rstbench.plan import merge_nodes
from rstbench.report.paper import paper_rows
from rstbench.report.table import answered
from rstbench.spec.base import canonical_json
from tests.suites import SHIPPED, planned

COUNTS = {
    "data": 3,
    "train": 21,
    "search": 114,
    "rtt": 42,
    "craft": 1224,
    "predict": 5022,
    "measure": 3,
}
"""Nodes of Tables 1 to 9 together under profile paper."""

TABLES = [path for path in SHIPPED if path.stem.startswith("table")]


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_value_of_a_table_is_answered_once(path: Path) -> None:
    made = planned(path, "paper")
    number = str(made.suite.run.table.paper)
    assert path.stem.startswith(f"table{number}_")
    found = [row.columns for row in map(answered, made.cells) if row is not None]
    unanswered = [row.columns for row in paper_rows() if row.columns["table"] == number and row.columns not in found]
    assert unanswered == []
    assert len({tuple(row.items()) for row in found}) == len(found)


def test_the_nine_tables_together_search_and_attack_once() -> None:
    """What the paper's tables take in all, each network, search and attack once: three seeds, whole test sets."""
    plans = [planned(path, "paper") for path in TABLES]
    assert [str(one.suite.run.table.paper) for one in plans] == [str(number) for number in range(1, 10)]
    nodes = merge_nodes(plans)
    listed = sum(len(one.nodes) for one in plans)
    assert listed > 1.3 * len(nodes)  # they share much
    described = [canonical_json([node.kind, node.spec, node.inputs]) for node in nodes.values()]
    assert len(set(described)) == len(described)
    assert Counter(node.kind for node in nodes.values()) == COUNTS
