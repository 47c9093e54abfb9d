"""Transfer matrices beside the overlap of masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rstbench.plan import Node, Plan
from rstbench.report.publish import Published, publish
from rstbench.report.transfer import TRANSFER
from rstbench.store import Store
from tests.report.battery_suite import BATTERY_SUITE
from tests.report.planned import N, by_key, fill, samples, small_plan
from tests.suites import changed

SUITE = changed(
    BATTERY_SUITE,
    ("table:\n", "measures:\n  overlap: {kind: mask_overlap}\ntable:\n"),
    ("    - {defense: r2s, attack: game}\n", "    - {defense: r2s, measure: overlap}\n"),
    ("seeds: [0]", "seeds: [0, 1]"),
    ("  game: {kind: game, over: [pgd20, eot], held_out: 30}\n", ""),
)
SHARED = {(0, 1): 0.5, (0, 2): 0.2, (1, 2): 0.3}
RIGHT = {(0, 1): 10, (0, 2): 25, (1, 2): 20}
"""Images of 40 that stay right when they come from another member: the more, the less the masks share."""


def written(tmp_path: Path, measured: bool = True) -> tuple[Plan, Published]:
    plan = small_plan(tmp_path, "paper", SUITE)
    (pgd20,) = [c for c in plan.cells if c.columns["defense"] == "r2s" and c.attack_key == "pgd20"]
    place = {key: (s, m) for grid in pgd20.predictions for s, row in enumerate(grid) for m, key in enumerate(row)}

    def columns(node: Node) -> dict[str, np.ndarray] | None:
        if node.key not in place:
            return by_key(node)
        s, m = place[node.key]
        return samples(np.arange(N) < (4 if s == m else RIGHT[min(s, m), max(s, m)]))

    def facts(node: Node) -> dict[str, object]:
        if node.kind != "measure" or not measured:
            return {}
        # The second seed shares a little more.
        more = 0.0 if node.key == plan.cells[-1].values[0] else 0.1
        return {"value": 1 / 3, "pairs": [[i, j, shared + more] for (i, j), shared in SHARED.items()]}

    return plan, publish(plan, fill(plan, Store(tmp_path / "store"), columns, facts=facts), tmp_path / "out")


def test_overlap_stands_beside_what_transfers(tmp_path: Path) -> None:
    _, published = written(tmp_path)
    frame = published.matrices
    assert list(frame.columns) == list(TRANSFER)
    labels = ("0.05", "0.10", "0.20")
    own = frame[(frame["attack"] == "pgd20") & (frame["variant"] == "")]
    for row in own.to_dict("records"):
        s, m = labels.index(row["source"]), labels.index(row["member"])
        shared = 1.0 if s == m else SHARED[min(s, m), max(s, m)] + 0.05
        assert row["overlap"] == f"{shared:#.4g}"
    # The images of all members together have no mask to overlap with.
    assert frame.loc[frame["attack"].isin(["eot_pgd20", "pointwise"]), "overlap"].unique().tolist() == [""]
    page = published.table_md.read_text()
    assert "Overlap of masks between 0.250 and 0.550; rank correlation with the transferred accuracies -1.00." in page


def test_without_overlaps_nothing_is_said(tmp_path: Path) -> None:
    _, published = written(tmp_path, measured=False)
    assert published.matrices["overlap"].unique().tolist() == [""]
    assert "Overlap of masks" not in published.table_md.read_text()
