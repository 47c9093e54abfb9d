"""Worst cases over epsilons in what is published: their mark, their cost, and how much of a curve was kept."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from rstbench.nodes import Node
from rstbench.plan import plan
from rstbench.report.curves import publish_curves
from rstbench.report.publish import publish
from rstbench.spec.load import load_suite
from rstbench.spec.made import series_suite
from rstbench.spec.suite import Cell
from rstbench.store import Store
from tests.report.planned import SUITE, N, by_key, fill, samples, small_plan
from tests.suites import changed, facts_of, written

CHAIN = changed(
    SUITE,
    ("attacks:\n", """attacks:
  chain: {kind: pgd, smaller_epsilons: ["2/255", "4/255"], report_as: pgd20, variant: chain}
"""),
    ("    - {defense: dense_at, attack: clean}\n",
     "    - {defense: dense_at, attack: clean}\n    - {defense: dense_at, attack: chain}\n"),
)  # fmt: skip
FLAG = "reused_smaller_epsilon"


def facts(node: Node) -> dict[str, object]:
    """Of a craft node: fewer passes the further it is along the chain, as fewer images stand."""
    if node.kind != "craft":
        return {}
    smaller = node.spec["attack"]["smaller_epsilons"]
    found: dict[str, object] = {"passes": {"forward": 0.0, "gradient": 20.0 * N / (1 + len(smaller))}, "flags": []}
    if smaller:
        found |= {"flags": [FLAG], "kept": {epsilon: 3 for epsilon in smaller}}
    return found


def test_a_row_with_its_mark_and_all_that_it_took(tmp_path: Path) -> None:
    made = small_plan(tmp_path, "desk", CHAIN)
    published = publish(made, fill(made, Store(tmp_path / "store"), by_key, facts=facts), tmp_path / "out")
    frame = pd.read_csv(published.battery_csv, dtype=str, keep_default_na=False)
    (row,) = frame[frame["variant"] == "chain"].to_dict("records")
    assert row[FLAG] == "1" and FLAG in row["flags"]
    assert (row["gradients"], row["seconds"]) == (f"{20 + 10 + 20 / 3:.1f}", "6.0")
    others = frame[frame["variant"] != "chain"]
    assert not others["flags"].str.contains(FLAG).any()
    page = published.table_md.read_text()
    assert f"- `{FLAG}` (†" in page and "a worst case over these epsilons" in page
    (details,) = published.details[published.details["variant"] == "chain"].to_dict("records")
    assert len(details["attack_keys"].split()) == 3


def test_a_curve_says_how_many_images_it_kept(tmp_path: Path) -> None:
    suite = load_suite(written(tmp_path, SUITE), "desk")
    cell = Cell(defense="dense_at", attack="pgd20_never", dataset="cifar10", network="preact_resnet18")
    curves, series = series_suite(suite, cell, ("restarts", "epsilon"), 55.4, reuse=True)
    made = plan(curves, facts_of(curves))
    store = fill(made, Store(tmp_path / "store"), lambda node: samples(np.arange(N) < 12), facts=facts)
    publish_curves(made, store, series, tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "curves.csv").read_text().splitlines()))
    along = [row["kept"] for row in rows if row["axis"] == "epsilon"]
    # Without an attack, and at the smallest epsilon, nothing can have been kept.
    assert along == ["", "", *(str(3 * place) for place in range(1, len(along) - 1))]
    assert {row["kept"] for row in rows if row["axis"] == "restarts"} == {""}
    figure = (tmp_path / "out" / "curves.svg").read_text()
    assert figure.count("what fell at a smaller one is kept") == 1
