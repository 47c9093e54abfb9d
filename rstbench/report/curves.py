"""Diagnostic curves: robust accuracy of one attack over its steps, its restarts, and epsilon.

A sound attack does not get weaker with more steps or restarts, levels off, and reaches chance where every image lies
within epsilon. Where it does not, the numbers at the budget of interest are not to be trusted either.
"""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from rstbench.errors import StoreError
from rstbench.plan import Plan
from rstbench.report.measure import CellResult, Records, measure_plan
from rstbench.report.parts import images_of
from rstbench.spec.made import Series
from rstbench.store import Store

COLUMNS = ("axis", "value", "accuracy", "ci_low", "ci_high", "n", "seeds", "attack", "kept")
"""The columns of curves.csv. kept: images that fell within a smaller epsilon and were not attacked again, mean over
seeds; blank where every point was attacked by itself."""
NOISE_POINTS = 0.5
"""Rises of less, in points of accuracy, are put down to random starts."""
SETTLED_POINTS = 1.0
"""An attack that still gains more than this, in points, from its last doubling of steps is not converged."""


@dataclass(frozen=True)
class Point:
    """One measured value of a curve; accuracies in percent."""

    value: float
    result: CellResult

    @property
    def accuracy(self) -> float:
        """In percent."""
        assert self.result.measurement is not None  # only complete results become points
        return self.result.measurement.accuracy


def points_of(series: Series, results: Mapping[str, CellResult]) -> list[Point]:
    """The points that were measured, by increasing value. results: by attack key."""
    found = [(value, results[key]) for value, key in sorted(series.points.items()) if key in results]
    return [Point(value, result) for value, result in found if result.measurement is not None]


def remarks(axis: str, points: Sequence[Point], chance: float, end: float) -> list[str]:
    """What is wrong with a curve, in sentences; empty if nothing is.

    chance: share of the largest class, percent; end: the last value of the axis, measured or not.
    """
    found = []
    for before, after in pairwise(points):
        if after.accuracy > before.accuracy + NOISE_POINTS:
            found.append(
                f"accuracy rises from {before.accuracy:.2f} to {after.accuracy:.2f} % between {axis} "
                f"{before.value:.4g} and {after.value:.4g}: a larger budget should never leave more standing"
            )
    if axis == "epsilon" and points and points[-1].value == end and points[-1].accuracy > chance:
        found.append(
            f"at epsilon {points[-1].value:.4g}, where every image is allowed, {points[-1].accuracy:.2f} % are still "
            f"right (a constant answer gets at most {chance:.2f} %): the attack is too weak, or gradients are masked"
        )
    if axis == "steps" and len(points) > 1 and points[-2].accuracy - points[-1].accuracy > SETTLED_POINTS:
        found.append(
            f"still falling at {points[-1].value:.0f} steps (by {points[-2].accuracy - points[-1].accuracy:.2f} "
            "points): not converged"
        )
    return found


@dataclass(frozen=True)
class Curves:
    """Files that were written, and what looked wrong, by axis."""

    paths: tuple[Path, ...]
    remarks: Mapping[str, Sequence[str]]


def publish_curves(plan: Plan, store: Store, series: Sequence[Series], out: Path) -> Curves:
    """Write curves.csv, curves.png and curves.svg into `out`. Raises `StoreError` if it cannot be written."""
    by_key: dict[str, list[CellResult]] = {}
    for result in measure_plan(plan, store):
        by_key.setdefault(result.cell.attack_key, []).append(result)
    # The curve is of one cell; a matrix of several data sets or networks would be several figures.
    results = {key: found[0] for key, found in by_key.items()}
    curves = {each.axis: points_of(each, results) for each in series}
    chance = _chance(plan, store)
    found = {each.axis: remarks(each.axis, curves[each.axis], chance, max(each.points)) for each in series}
    rows, records = [",".join(COLUMNS)], Records(plan, store)
    for axis, points in curves.items():
        for point in points:
            measured = point.result.measurement
            if measured is not None:
                low, high = measured.interval.low, measured.interval.high
                numbers = f"{measured.accuracy:.2f},{low:.2f},{high:.2f},{measured.n}"
                seeds = " ".join(map(str, point.result.cell.seeds))
                attack = point.result.cell.columns["attack"]
                rows.append(f"{axis},{point.value:.6g},{numbers},{seeds},{attack},{_kept(point, plan, records)}")
    files = {"curves.csv": ("\n".join(rows) + "\n").encode()}
    drawn = {axis: points for axis, points in curves.items() if points}
    if drawn:
        title = _title(next(iter(drawn.values()))[-1].result)
        reused = {each.axis for each in series if each.reused}
        files |= {f"curves.{kind}": _figure(drawn, reused, chance, title, kind) for kind in ("png", "svg")}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            temporary = out / f".{name}-{uuid.uuid4().hex}"
            temporary.write_bytes(data)
            os.replace(temporary, out / name)
    except OSError as error:
        raise StoreError(f"curves cannot be written to {out} ({error.strerror or error})") from error
    return Curves(tuple(out / name for name in files), found)


def _kept(point: Point, plan: Plan, records: Records) -> str:
    counts: list[int] = []
    for predictions in point.result.cell.predictions:
        parts = [records.record(key).get("kept") for key in images_of(predictions[0][0], plan.nodes)]
        counts += [sum(sum(part.values()) for part in parts if part is not None)] if None not in parts else []
    return f"{sum(counts) / len(counts):g}" if counts else ""


def _chance(plan: Plan, store: Store) -> float:
    from rstbench.report.predictions import read_samples

    for cell in plan.cells:
        samples = read_samples(store, cell.predictions[0][0][0]) if cell.predictions else None
        if samples is not None:
            _, counts = np.unique(samples.label, return_counts=True)
            return 100 * float(counts.max() / counts.sum())
    return 100.0


def _title(result: CellResult) -> str:
    columns = result.cell.columns
    words = [columns["attack"], "on", columns["defense"], columns["ratio"], f"({columns['candidate_set']})"]
    words += ["of", result.cell.run["run_network"], "on", result.cell.run["run_dataset"]]
    return " ".join(word for word in words if word not in ("", "()"))


_LABELS = {"steps": "steps", "restarts": "restarts", "epsilon": "epsilon (pixel range is 1)"}


def _figure(
    curves: Mapping[str, Sequence[Point]], reused: Collection[str], chance: float, title: str, kind: str
) -> bytes:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(4.2 * len(curves), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for axis, panel in zip(curves, panels, strict=True):
        points = curves[axis]
        measured = [point.result.measurement for point in points]
        x = [point.value for point in points]
        low = [m.interval.low for m in measured if m is not None]
        high = [m.interval.high for m in measured if m is not None]
        panel.fill_between(x, low, high, color="#0072B2", alpha=0.2, linewidth=0)  # Okabe and Ito's palette
        panel.plot(x, [point.accuracy for point in points], color="#0072B2", marker="o", markersize=3.5, linewidth=1.4)
        if axis == "epsilon":
            panel.set_xscale("symlog", linthresh=min(v for v in x if v > 0), base=2)
            panel.axhline(chance, color="#D55E00", linestyle="--", linewidth=1.0)
            panel.annotate(
                "constant answer", (x[0], chance), (0, 3), textcoords="offset points", color="#D55E00", fontsize=8
            )
        else:
            panel.set_xscale("log")
            panel.set_xticks(x, [f"{value:g}" for value in x])
            panel.minorticks_off()
        panel.set_xlabel(_LABELS[axis] + ("\nwhat fell at a smaller one is kept" if axis in reused else ""))
        panel.grid(alpha=0.25)
    if "epsilon" in curves:
        panel = panels[list(curves).index("epsilon")]
        ticks = [point.value for point in curves["epsilon"]][::2]
        panel.set_xticks(ticks, [_epsilon(value) for value in ticks], fontsize=9)
        panel.minorticks_off()
    panels[0].set_ylim(bottom=0)  # of all panels, once all are drawn
    panels[0].set_ylabel("accuracy, %")
    figure.suptitle(title, fontsize=10)
    image = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "rstbench", "svg.fonttype": "none"}):
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(image, format=kind, dpi=150, metadata=metadata)
    return image.getvalue()


def _epsilon(value: float) -> str:
    in_pixels = 255 * value
    near = abs(in_pixels - round(in_pixels)) < 1e-6
    return f"{round(in_pixels)}/255" if 0 < value < 1 and near else f"{value:.3g}"
