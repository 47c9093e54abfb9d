from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rstbench.report.measure import measure
from rstbench.report.publish import publish
from rstbench.report.table import KEY
from rstbench.store import Store
from tests.report.battery_suite import BATTERY_SUITE
from tests.report.planned import by_key, fill, small_plan


def test_samples_hold_every_prediction(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    store = fill(plan, Store(tmp_path / "store"))
    published = publish(plan, store, tmp_path / "out")
    frame = pd.read_parquet(published.samples)
    assert list(frame.columns) == ["seed", *KEY, "source", "member", "index", "label", "prediction"]
    assert len(frame) == 40 * (1 + 1 + 36 + 36 + 4 + 2)
    r2s = frame[(frame["defense"] == "r2s") & (frame["variant"] == "")]
    matrix = 100 * (r2s["label"] == r2s["prediction"]).groupby([r2s["source"], r2s["member"]], observed=True).mean()
    found = measure(plan.cells[2], store)
    assert found is not None
    for s, source in enumerate(plan.cells[2].sources):
        for m, member in enumerate(plan.cells[2].members):
            assert matrix[source, member] == pytest.approx(found.matrix[s, m])


def test_adversaries_that_choose_repeat_no_samples(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, "paper", BATTERY_SUITE)
    frame = pd.read_parquet(publish(plan, fill(plan, Store(tmp_path / "store")), tmp_path / "out").samples)
    # A ticket: six cells. The switch: natural, three members squared twice, EOT.
    assert len(frame) == 40 * (6 + 3 + 9 + 3 + 9 + 9)
    pointwise = frame[frame["attack"] == "pointwise"]
    assert pointwise["source"].unique().tolist() == ["fgsm/0.05", "fgsm/0.10", "fgsm/0.20"]  # no cell has FGSM on it
    assert "game" not in set(frame["attack"])


def test_samples_are_rewritten_only_when_they_changed(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    last = plan.cells[5].predictions[0][0][1]
    store = fill(plan, Store(tmp_path / "store"), lambda node: None if node.key == last else by_key(node))
    path = publish(plan, store, tmp_path / "out").samples
    rows = len(pd.read_parquet(path))
    before = path.stat().st_ino
    publish(plan, store, tmp_path / "out")
    assert path.stat().st_ino == before
    fill(plan, store)
    publish(plan, store, tmp_path / "out")
    assert len(pd.read_parquet(path)) == rows + 80
    path.write_bytes(path.read_bytes()[:100])
    publish(plan, store, tmp_path / "out")
    assert len(pd.read_parquet(path)) == rows + 80
