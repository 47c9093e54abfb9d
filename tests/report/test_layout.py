"""Where the rows of the tidy table stand in the printed one."""

from __future__ import annotations

from pathlib import Path

from rstbench.report.layout import grid
from rstbench.report.table import tidy
from rstbench.store import Store
from tests.report.planned import SUITE, fill, small_plan
from tests.suites import changed

TRANSFER = changed(
    SUITE,
    ("    - {defense: pair, attack: eot}\n", "    - {defense: pair, attack: eot}\n"
     "    - {defense: pair, attack: eot, source: r2s}\n    - {defense: pair, attack: pgd20, source: dense_at}\n"),
)  # fmt: skip


def test_sources_may_label_rows_in_place_of_columns(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, text=TRANSFER)
    frame = tidy(plan, fill(plan, Store(tmp_path / "store")))
    usual = grid(plan, frame)
    assert usual.axes == ("network", "defense")
    assert [name for name in usual.columns if "from" in name] == [
        "cifar10, eot_pgd20 linf 8 from r2s",
        "cifar10, pgd20 linf 8 from dense_at",
    ]
    apart = small_plan(
        tmp_path,
        text=changed(TRANSFER, ("  paper: 3\n", "  paper: 3\n  rows: [defense, source]\n  columns: [attack]\n")),
    )
    layout = grid(apart, frame)
    assert layout.axes == ("defense", "source")
    assert layout.columns == ["natural", "pgd20 linf 8", "eot_pgd20 linf 8"]
    pair = {row.labels[1]: row.cells for row in layout.rows if row.labels[0].startswith("pair")}
    assert list(pair) == ["", "r2s", "dense_at"]
    assert list(pair["r2s"]) == ["eot_pgd20 linf 8"] and pair["r2s"]["eot_pgd20 linf 8"]["attack_source"] == "r2s"
    # No cell is lost, and none stands on another.
    assert sum(len(row.cells) for row in layout.rows) == len(frame) == sum(len(row.cells) for row in usual.rows)
