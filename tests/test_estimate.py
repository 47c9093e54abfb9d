from __future__ import annotations

import json
from pathlib import Path

import pytest

from rstbench.estimate import CORE_FLOPS, GPU_FLOPS, KINDS, as_json, costs, hours
from rstbench.plan import merge_nodes
from rstbench.store import Store
from tests.suites import TINY, changed, planned, written


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
    assert tuple(rows) == KINDS
    assert sum(row.nodes for row in rows.values()) == len(nodes)
    assert sum(row.shared for row in rows.values()) == len(one.nodes.keys() & other.nodes.keys())
    assert {kind: row.stored for kind, row in rows.items()} == {
        "data": 1, "train": 1, "search": 0, "craft": 0, "predict": 0,
    }  # fmt: skip
    assert (rows["search"].nodes, rows["search"].shared) == (3, 1)
    assert rows["train"].macs > rows["train"].macs_left == 0
    assert sum(row.macs for row in rows.values()) == pytest.approx(sum(node.macs for node in nodes.values()))


def test_hours() -> None:
    # The paper's setting of Table 3, searches of WRN-34-10 above all, is weeks of one GPU and no evening's work.
    assert hours(GPU_FLOPS * 3600 / 2, GPU_FLOPS) == 1.0
    assert hours(1e15, CORE_FLOPS) / hours(1e15, GPU_FLOPS) == pytest.approx(GPU_FLOPS / CORE_FLOPS)


def test_the_papers_table_3_is_dear() -> None:
    made = planned(Path(__file__).parents[1] / "suites" / "table3_r2s.yaml")
    macs = sum(row.macs for row in costs([made], Store(Path("/nonexistent"))))
    assert 24 * 7 < hours(macs, GPU_FLOPS) < 24 * 365


def test_as_json(tmp_path: Path) -> None:
    made = planned(written(tmp_path))
    store = Store(tmp_path / "store")
    store.prepare()
    first = next(iter(made.nodes))
    store.write(first, {}, {})
    read = json.loads(as_json([made], made.nodes, store))
    assert [node["key"] for node in read["nodes"]] == list(made.nodes)
    assert [node["stored"] for node in read["nodes"]] == [key == first for key in made.nodes]
    assert [(suite["name"], suite["profile"]) for suite in read["suites"]] == [("tiny", "paper")]
    for cell, row in zip(made.cells, read["suites"][0]["cells"], strict=True):
        assert row["predictions"] == [[list(sources) for sources in seed] for seed in cell.predictions]
        assert row.items() >= {**cell.columns, **cell.run}.items()
    assert read["rates"] == {"gpu_flops": GPU_FLOPS, "cpu_core_flops": CORE_FLOPS}
