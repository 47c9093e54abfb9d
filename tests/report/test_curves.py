"""Curves: points, what looks wrong about them, and the files."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from rstbench.errors import StoreError
from rstbench.nodes import Node
from rstbench.plan import Plan, plan
from rstbench.report.curves import Point, points_of, publish_curves, remarks
from rstbench.report.measure import CellResult, measure_plan
from rstbench.report.statistics import Interval
from rstbench.spec.load import load_suite
from rstbench.spec.made import Series, series_suite
from rstbench.spec.suite import Cell
from rstbench.store import Store
from tests.report.planned import SUITE, fill, samples
from tests.suites import facts_of, written

N = 40


def made(folder: Path, defense: str = "dense_at") -> tuple[Plan, tuple[Series, ...]]:
    suite = load_suite(written(folder, SUITE), "desk")
    cell = Cell(defense=defense, attack="pgd20", dataset="cifar10", network="preact_resnet18")
    curves, series = series_suite(suite, cell, ("steps", "restarts", "epsilon"), 55.4)
    return plan(curves, facts_of(curves)), series


def right_in(plan: Plan, counts: dict[str, int]) -> dict[str, np.ndarray]:
    """Samples of predict nodes by key, so many of 40 right under the attack of each cell."""
    found = {}
    # Where two points are one attack, the one that was asked for decides.
    for cell in sorted(plan.cells, key=lambda cell: cell.attack_key in counts):
        right = np.arange(N) < counts.get(cell.attack_key, 12)
        found |= {key: samples(right) for seed in cell.predictions for row in seed for key in row}
    return found


def stored(folder: Path, plan: Plan, counts: dict[str, int], left_out: tuple[str, ...] = ()) -> Store:
    known = right_in(plan, counts)
    lost = {key for cell in plan.cells if cell.attack_key in left_out for s in cell.predictions for r in s for key in r}

    def columns(node: Node) -> dict[str, np.ndarray] | None:
        return None if node.key in lost else known.get(node.key, samples(np.ones(N, dtype=bool)))

    return fill(plan, Store(folder / "store"), columns)


def along(series: tuple[Series, ...], axis: str, counts: list[int]) -> dict[str, int]:
    (chosen,) = [each for each in series if each.axis == axis]
    return dict(zip(chosen.points.values(), counts, strict=True))


SOUND = {"steps": [24, 20, 16, 14, 12, 12, 12], "restarts": [12, 12, 11, 11]}


def sound(series: tuple[Series, ...]) -> dict[str, int]:
    """Counts of a sound attack; points of two curves that are one attack agree."""
    counts = along(series, "restarts", SOUND["restarts"]) | along(series, "steps", SOUND["steps"])
    return counts | along(series, "epsilon", [32, 26, 20, 12, 8, 6, 5, 4, 0])


def test_the_files(tmp_path: Path) -> None:
    made_plan, series = made(tmp_path)
    curves = publish_curves(made_plan, stored(tmp_path, made_plan, sound(series)), series, tmp_path / "out")
    assert sorted(path.name for path in curves.paths) == ["curves.csv", "curves.png", "curves.svg"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["curves.csv", "curves.png", "curves.svg"]
    assert all(list(found) == [] for found in curves.remarks.values())
    rows = list(csv.DictReader((tmp_path / "out" / "curves.csv").read_text().splitlines()))
    assert list(rows[0]) == ["axis", "value", "accuracy", "ci_low", "ci_high", "n", "seeds", "attack", "kept"]
    by_axis = {axis: [row for row in rows if row["axis"] == axis] for axis in ("steps", "restarts", "epsilon")}
    assert [float(row["accuracy"]) for row in by_axis["steps"]] == [100 * c / N for c in SOUND["steps"]]
    assert by_axis["epsilon"][0]["value"] == "0"
    assert [row["value"] for row in by_axis["epsilon"]][-1] == "1"
    for row in rows:
        assert (row["n"], row["seeds"], row["attack"]) == ("40", "0", "pgd20" if row["value"] != "0" else "none")
        assert row["kept"] == "", "each point was attacked by itself"
        assert float(row["ci_low"]) <= float(row["accuracy"]) <= float(row["ci_high"])
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")
    root = ElementTree.fromstring((tmp_path / "out" / "curves.svg").read_text())
    words = " ".join(text.strip() for text in root.itertext() if text.strip())
    for label in ("steps", "restarts", "accuracy, %", "constant answer", "pgd20 on dense_at"):
        assert label in words


def test_equal_results_leave_equal_bytes(tmp_path: Path) -> None:
    made_plan, series = made(tmp_path)
    store = stored(tmp_path, made_plan, sound(series))
    for name in ("one", "two"):
        publish_curves(made_plan, store, series, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_points_that_were_not_measured_are_left_out(tmp_path: Path) -> None:
    made_plan, series = made(tmp_path)
    lost = ("steps-1", "epsilon-1", *(f"restarts-{n}" for n in (1, 2, 5, 10)))
    store = stored(tmp_path, made_plan, sound(series), lost)
    curves = publish_curves(made_plan, store, series, tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "curves.csv").read_text().splitlines()))
    axes = [row["axis"] for row in rows]
    # Restarts: 1 is the same attack as 20 steps, which was measured elsewhere or lost with it.
    assert axes.count("steps") in (5, 6) and axes.count("restarts") == 0 and axes.count("epsilon") < 9
    assert (tmp_path / "out" / "curves.png").is_file()
    assert curves.remarks["epsilon"] == [], "the end of the curve is missing, so nothing is known of it"


def test_nothing_measured(tmp_path: Path) -> None:
    made_plan, series = made(tmp_path)
    store = Store(tmp_path / "store")
    store.prepare()
    curves = publish_curves(made_plan, store, series, tmp_path / "out")
    assert [path.name for path in curves.paths] == ["curves.csv"]
    assert (tmp_path / "out" / "curves.csv").read_text() == "axis,value,accuracy,ci_low,ci_high,n,seeds,attack,kept\n"


def test_what_cannot_be_written(tmp_path: Path) -> None:
    made_plan, series = made(tmp_path)
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(StoreError, match="out"):
        publish_curves(made_plan, stored(tmp_path, made_plan, sound(series)), series, tmp_path / "out")


def points(folder: Path, axis: str, counts: list[int]) -> list[Point]:
    made_plan, series = made(folder)
    store = stored(folder, made_plan, along(series, axis, counts))
    results: dict[str, CellResult] = {result.cell.attack_key: result for result in measure_plan(made_plan, store)}
    (chosen,) = [each for each in series if each.axis == axis]
    found = points_of(chosen, results)
    assert [point.accuracy for point in found] == [100 * count / N for count in counts]
    assert all(isinstance(point.result.measurement.interval, Interval) for point in found if point.result.measurement)
    return found


@pytest.mark.parametrize(
    "axis, counts, words",
    [
        ("steps", [20, 18, 12, 10, 10, 10, 10], []),
        ("steps", [20, 18, 12, 14, 10, 10, 10], ["accuracy rises from 30.00 to 35.00 % between steps 5 and 10"]),
        ("steps", [20, 18, 12, 12, 12, 12, 10], ["still falling at 100 steps (by 5.00 points): not converged"]),
        ("restarts", [20, 19, 18, 17], []),
        ("restarts", [20, 21, 21, 21], ["rises from 50.00 to 52.50 % between restarts 1 and 2"]),
        ("epsilon", [40, 30, 20, 10, 4, 4, 4, 4, 4], []),
        ("epsilon", [40, 30, 20, 10, 5, 5, 5, 5, 5], ["at epsilon 1, where every image is allowed, 12.50 % are still"]),
        ("epsilon", [20, 30, 20, 10, 4, 4, 0, 0, 0], ["rises from 50.00 to 75.00 % between epsilon 0 and 0.007843"]),
    ],
)
def test_remarks(tmp_path: Path, axis: str, counts: list[int], words: list[str]) -> None:
    found = remarks(axis, points(tmp_path, axis, counts), 10.0, {"epsilon": 1.0}.get(axis, 100.0))
    assert len(found) == len(words) and all(word in text for word, text in zip(words, found, strict=True))
