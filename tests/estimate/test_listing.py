from __future__ import annotations

import json
from pathlib import Path

import pytest

from rstbench.estimate.forecast import Forecast, course
from rstbench.estimate.listing import as_json
from rstbench.estimate.stated import CORE_FLOPS, GPU_FLOPS
from rstbench.store import Store
from tests.estimate.rates import calibrated
from tests.suites import planned, written


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
    assert read["calibration"] is None and read["wall_seconds"] is None
    assert all(node["seconds"] is None for node in read["nodes"])


def test_as_json_of_a_machine_that_is_calibrated(tmp_path: Path) -> None:
    made = planned(written(tmp_path))
    store, calibration = Store(tmp_path / "store"), calibrated(made.nodes)
    read = json.loads(as_json([made], made.nodes, store, calibration, workers=2))
    forecast = Forecast(made.nodes, calibration)
    for node, row in zip(made.nodes.values(), read["nodes"], strict=True):
        assert row["seconds"] == pytest.approx(forecast.cost(node).seconds)
    assert read["calibration"]["date"] == "2021-12-06" and read["calibration"]["device"] == "cpu"
    assert read["workers"] == 2 and read["wall_seconds"] == pytest.approx(course(made.nodes, forecast, 2).wall)
