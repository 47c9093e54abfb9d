"""Transfer over the overlap of masks: what is read, drawn and listed, and what is refused."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from rstbench.errors import SpecError, StoreError
from rstbench.nodes import Node
from rstbench.plan import Plan
from rstbench.report.figures import publish_figure
from rstbench.report.figures.points import Shown, shown
from rstbench.report.statistics import bootstrap_mean, t_of_means, wilson
from rstbench.store import Store
from tests.report.figures.small_figure import FIGURE, pictured, right_share
from tests.report.planned import N, fill, samples
from tests.suites import changed

PANEL = """    - kind: scatter
      title: (f) pairs
      dataset: cifar10
      network: preact_resnet18
      attack: pgd20
      series:
        - {defense: r2s, label: ratios}
"""
SCATTER = changed(
    FIGURE[: FIGURE.index("    - kind: lines")] + PANEL + FIGURE[FIGURE.index("profiles:") :],
    ("r2s: {kind: r2s, search: rst, ratios: [0.05, 0.20]}", "r2s: {kind: r2s, search: rst, ratios: [0.05, 0.20, 0.6]}"),
    ("measures:\n", "measures:\n  overlap: {kind: mask_overlap}\n"),
    ("    - {defense: dense_at, measure: near}\n", "    - {defense: dense_at, measure: near}\n"
     "    - {defense: r2s, measure: overlap}\n"),
)  # fmt: skip
GAIN = changed(SCATTER, ("title: (f) pairs\n", "title: (f) pairs\n      gain: true\n"))
SHARED = {(0, 1): 0.5, (0, 2): 0.125, (1, 2): 0.25}
PLACES = ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))
CHANCE = 0.0625


def held(folder: Path, plan: Plan, facts: Mapping[str, object] | None = None, without: str = "") -> Store:
    """Images from another member leave 8 more right than a member's own (`right_share`)."""
    counts = right_share(plan)

    def columns(node: Node) -> dict[str, np.ndarray] | None:
        return samples(np.arange(N) < counts.get(node.key, N)) if not without or without not in node.title else None

    recorded = {"value": 0.3, "pairs": [[i, j, x] for (i, j), x in SHARED.items()], "by_chance": CHANCE}

    def of(node: Node) -> Mapping[str, object]:
        overlap = node.kind == "measure" and node.spec["measure"]["kind"] == "mask_overlap"
        return (recorded if facts is None else facts) if overlap else {}

    return fill(plan, Store(folder / "store"), columns, facts=of)


def scatter(folder: Path, text: str = SCATTER, profile: str = "desk") -> Shown:
    plan = pictured(folder, profile, text)
    return shown(plan, held(folder, plan))[-1]


def own(ratio: float, more: int = 0) -> int:
    return 12 + round(20 * ratio) + more


RATIOS = (0.05, 0.20, 0.60)


def test_every_ordered_pair_once(tmp_path: Path) -> None:
    panel = scatter(tmp_path)
    pairs = panel.pairs["ratios"]
    assert [tuple(place) for place in pairs.places.tolist()] == list(PLACES)
    assert pairs.overlap.tolist() == [SHARED[min(place), max(place)] for place in PLACES]
    # The target decides: of images from 0.05 the ticket of 60 % gets 24 + 8 right.
    expected = [own(RATIOS[member], 8) for _, member in PLACES]
    assert pairs.values == pytest.approx([100 * count / N for count in expected])
    first = wilson(expected[0], N)
    assert (pairs.low[0], pairs.high[0], panel.intervals) == (first.low, first.high, {"wilson"})
    assert pairs.white_box == pytest.approx(100 * np.mean([own(ratio) for ratio in RATIOS]) / N)
    assert pairs.by_chance == CHANCE
    assert panel.refusal() is None and panel.missing == ()


def test_gains_are_paired_with_the_members_own_images(tmp_path: Path) -> None:
    one = scatter(tmp_path, GAIN).pairs["ratios"]
    assert one.values == pytest.approx([100 * 8 / N] * 6) and one.white_box == 0
    # The eight images that come right are the same ones, so only they spread.
    paired = bootstrap_mean(np.where((np.arange(N) >= own(0.20)) & (np.arange(N) < own(0.20, 8)), 100.0, 0.0))
    assert (one.low[0], one.high[0]) == (paired.low, paired.high)
    several = scatter(tmp_path, GAIN, "paper")
    two = several.pairs["ratios"]
    assert several.intervals == {"t over seeds"}
    ends = t_of_means([100 * 8 / N, 100 * 8 / N])
    assert (two.low[0], two.high[0]) == pytest.approx((ends.low, ends.high))


def points(out: Path) -> list[dict[str, str]]:
    found = csv.DictReader((out / "points.csv").read_text(encoding="utf-8").splitlines())
    return [row for row in found if row["panel"] == "(f) pairs"]


@pytest.mark.parametrize("text, metric", [(SCATTER, "robust_acc"), (GAIN, "robust_acc_gain")])
def test_the_files(tmp_path: Path, text: str, metric: str) -> None:
    plan, out = pictured(tmp_path, "desk", text), tmp_path / "out"
    publish_figure(plan, held(tmp_path, plan), out, "")
    found = points(out)
    assert [row["kind"] for row in found] == ["scatter"] * 6 + ["white_box"] * 3 + ["by_chance"]
    assert (found[0]["source"], found[0]["member"], found[0]["x"], found[0]["metric"]) == (
        "0.05",
        "0.20",
        "0.5",
        metric,
    )
    assert found[0]["value"] == ("20" if metric.endswith("gain") else "60")
    assert (found[6]["source"], found[6]["member"], found[6]["x"], found[6]["value"]) == ("0.05", "0.05", "1", "32.5")
    assert found[6]["metric"] == "robust_acc"
    assert (found[-1]["x"], found[-1]["value"], found[-1]["interval"]) == ("0.0625", "", "")
    picture = (out / "figure.svg").read_text(encoding="utf-8")
    label = "gain over white-box attack, points" if metric.endswith("gain") else "robust accuracy, %"
    for word in ("overlap of the two masks", "triangle, mean overlap of random masks", label):
        assert word in picture, word


def test_what_is_missing(tmp_path: Path) -> None:
    plan = pictured(tmp_path, "desk", SCATTER)
    store = held(tmp_path, plan, without="to 0.60")
    panel = shown(plan, store)[-1]
    assert [cell.defense for cell in panel.missing] == ["r2s"] and panel.pairs == {}
    assert panel.refusal() == "none of its values is in the store"
    (overlap,) = [cell for cell in plan.cells if cell.columns["metric"] == "mask_overlap" and cell.defense == "r2s"
                  and cell.columns["dataset"] == "cifar10"]  # fmt: skip
    other = held(tmp_path / "other", plan)
    without = Store(tmp_path / "without")
    without.prepare()
    for key in plan.nodes:
        if key != overlap.values[0]:
            value = other.value(key)
            without.write(key, value.record, {name: value.read(name) for name in value.record["files"]})
    panel = shown(plan, without)[-1]
    assert panel.missing == (overlap,) and not panel.found
    with pytest.raises(StoreError, match="mask_overlap"):
        publish_figure(plan, without, tmp_path / "out", "rstbench run pictured.yaml")


def test_a_record_without_pairs(tmp_path: Path) -> None:
    plan = pictured(tmp_path, "desk", SCATTER)
    with pytest.raises(StoreError, match="it holds no overlaps of single pairs"):
        shown(plan, held(tmp_path, plan, {"value": 0.3}))


def test_chance_may_be_unknown(tmp_path: Path) -> None:
    plan, out = pictured(tmp_path, "desk", SCATTER), tmp_path / "out"
    recorded = {"value": 0.3, "pairs": [[i, j, x] for (i, j), x in SHARED.items()]}
    publish_figure(plan, held(tmp_path, plan, recorded), out, "")
    assert {row["kind"] for row in points(out)} == {"scatter", "white_box"}


def test_one_pair_shows_no_trend(tmp_path: Path) -> None:
    two = changed(SCATTER, ("ratios: [0.05, 0.20, 0.6]", "ratios: [0.05, 0.20]"))
    plan = pictured(tmp_path, "desk", two)
    store = held(tmp_path, plan, {"value": 0.5, "pairs": [[0, 1, 0.5]], "by_chance": CHANCE})
    with pytest.raises(SpecError, match="only one overlap, and transfer at one overlap shows no trend"):
        publish_figure(plan, store, tmp_path / "out", "")
