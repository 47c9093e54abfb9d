from __future__ import annotations

from pathlib import Path

import pytest

from rstbench.estimate import CORE_FLOPS, GPU_FLOPS, KINDS, costs, left
from rstbench.plan import merge_nodes
from rstbench.store import Store
from tests.suites import TINY, changed, planned, written

TABLE3 = Path(__file__).parents[2] / "suites" / "table3_r2s.yaml"


def test_each_node_is_counted_once(tmp_path: Path) -> None:
    one = planned(written(tmp_path))
    other = planned(written(tmp_path, changed(TINY, ("name: tiny", "name: other"), ("[0.1, 0.3]", "[0.1, 0.4]"))))
    store = Store(tmp_path / "store")
    store.prepare()
    nodes = merge_nodes([one, other])
    done = [node for node in nodes.values() if node.kind in ("data", "train")]
    for node in done:
        store.write(node.key, {}, {})
    rows = {row.kind: row for row in costs([one, other], store)}
    assert list(rows) == [kind for kind in KINDS if kind in {node.kind for node in nodes.values()}]
    assert sum(row.nodes for row in rows.values()) == len(nodes)
    assert sum(row.shared for row in rows.values()) == len(one.nodes.keys() & other.nodes.keys())
    assert {kind: row.stored for kind, row in rows.items()} == {
        "data": 1, "train": 1, "search": 0, "craft": 0, "predict": 0,
    }  # fmt: skip
    assert (rows["search"].nodes, rows["search"].shared) == (3, 1)
    for name in ("macs", "passes"):
        whole = sum(getattr(node, name) for node in nodes.values())
        assert sum(getattr(row, name) for row in rows.values()) == pytest.approx(whole)
    macs = sum(node.macs for node in nodes.values() if node not in done)
    rest = left(nodes, store)
    assert rest.flop == pytest.approx(2 * macs)
    assert rest.gpu_hours == pytest.approx(2 * macs / GPU_FLOPS["fp32"] / 3600)
    assert rest.core_seconds == pytest.approx(2 * macs / CORE_FLOPS["fp32"])


def test_the_rate_is_that_of_the_precision(tmp_path: Path) -> None:
    nodes = planned(TABLE3, "express").nodes
    searches = {key: node for key, node in nodes.items() if node.kind == "search"}
    assert {node.precision for node in searches.values()} == {"bf16"}
    assert {node.precision for node in nodes.values() if node.kind in ("craft", "predict")} == {"fp32"}
    rest = left(searches, Store(tmp_path / "none"))
    assert rest.gpu_hours == pytest.approx(rest.flop / GPU_FLOPS["bf16"] / 3600)


def test_profiles_cost_what_they_are_for(tmp_path: Path) -> None:
    # Searches of WRN-34-10 above all: no evening's work, which is why the paper's profile asks for a GPU.
    def gpu_hours(profile: str) -> float:
        return left(planned(TABLE3, profile).nodes, Store(tmp_path / "none")).gpu_hours

    assert 24 < gpu_hours("paper") < 24 * 31
    assert gpu_hours("smoke") < gpu_hours("desk") < gpu_hours("express") < gpu_hours("paper") / 20
