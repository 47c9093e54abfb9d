"""What the shipped suites answer of the paper."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from rstbench.estimate import CORE_FLOPS, GPU_FLOPS
from rstbench.plan import merge_nodes
from rstbench.report.paper import IDENTITY, paper_csv, paper_rows
from rstbench.report.table import answered, tidy
from rstbench.spec.base import canonical_json
from rstbench.store import Store
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
"""Nodes of Tables 1 to 9 together under profile paper, every data set of 10 000 small test images.

ImageNet's own 50 000 are attacked and judged in parts, each a node of its own.
"""

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


def test_tables_join_with_the_paper_on_the_columns_of_its_values(tmp_path: Path) -> None:
    """272 of 272: every value of the paper meets exactly one row of ours, whatever of it has been run."""
    frames = [tidy(planned(path, "smoke"), Store(tmp_path / "store")) for path in TABLES]
    ours = pd.concat(frames, ignore_index=True)
    ours = ours[ours["variant"] == ""]
    paper = pd.read_csv(io.BytesIO(paper_csv()), dtype=str, keep_default_na=False)
    joined = paper.merge(ours, on=list(IDENTITY), how="left", validate="one_to_one", suffixes=("_paper", ""))
    assert len(joined) == len(paper) == 272
    assert (joined["value"] == joined["value_paper"]).all()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_express_fits_one_gpu_for_an_hour(path: Path) -> None:
    """By the stated rates, ImageNet's 1.28 million images counted as those of a small data set."""
    assert sum(2 * node.macs / GPU_FLOPS[node.precision] for node in planned(path, "express").nodes.values()) <= 3600


def test_the_nine_tables_take_a_desk_a_day() -> None:
    nodes = merge_nodes(planned(path, "desk") for path in TABLES)
    assert sum(2 * node.macs / CORE_FLOPS[node.precision] for node in nodes.values()) <= 2 * 24 * 3600
