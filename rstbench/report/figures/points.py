"""What the panels of a figure show: values and intervals, read from the store through the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rstbench.errors import StoreError
from rstbench.plan import Plan, PlannedCell
from rstbench.report.figures.pairs import Heat, Pairs, heat_of, pairs_of
from rstbench.report.measure import CellResult, describe, measure_plan
from rstbench.spec.figure import Panel, Series
from rstbench.spec.measures import METRICS, MaskOverlapSpec
from rstbench.spec.suite import SuiteSpec
from rstbench.store import Store


@dataclass(frozen=True)
class Point:
    """One value: percent for accuracies, else in the unit of its metric.

    ratio: remaining, of a ticket; None for what is no ticket.
    """

    ratio: float | None
    result: CellResult
    value: float

    @property
    def cell(self) -> PlannedCell:
        """The cell of the plan."""
        return self.result.cell

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval; the value itself where nothing is drawn at random."""
        return self.value if self.result.interval is None else self.result.interval.low

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval; the value itself where nothing is drawn at random."""
        return self.value if self.result.interval is None else self.result.interval.high

    @property
    def interval(self) -> str:
        """Kind of the interval; empty where there is none."""
        return "" if self.result.interval is None else self.result.interval.kind


@dataclass(frozen=True)
class Line:
    """The values of one series, by increasing ratio. label: in the legend; group: of bars."""

    label: str
    points: tuple[Point, ...]
    metric: str
    group: str = ""


@dataclass(frozen=True)
class Shown:
    """One panel with what the store holds of it.

    missing: cells that are not in the store, in full. samples: by label of a distribution's series, the value of each
    test image, sorted, all seeds together. pairs: by label of a scatter's series.
    """

    panel: Panel
    lines: tuple[Line, ...]
    dashed: tuple[Line, ...]
    missing: tuple[PlannedCell, ...]
    heat: Heat | None = None
    samples: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    pairs: Mapping[str, Pairs] = field(default_factory=dict)

    @property
    def found(self) -> tuple[Point, ...]:
        """All values of the panel, those of dashed lines included."""
        return tuple(point for line in (*self.lines, *self.dashed) for point in line.points)

    @property
    def intervals(self) -> set[str]:
        """Kinds of the intervals that are drawn."""
        matrices = [*([self.heat] if self.heat is not None else []), *(pairs.drawn for pairs in self.pairs.values())]
        if matrices:
            return {kind for matrix in matrices for kind in matrix.intervals.split(", ")}
        return {point.interval for point in self.found if point.interval}

    def refusal(self) -> str | None:
        """Why there is nothing to draw, or None."""
        if not any(line.points for line in self.lines):
            return "none of its values is in the store" if self.missing else "none of its cells was asked for"
        if self.panel.kind == "lines":
            ratios = {point.ratio for line in self.lines for point in line.points}
            if len(ratios) < 2:
                return f"only one remaining ratio ({next(iter(ratios)):g}), and one point makes no line"
        if self.panel.kind == "bars" and sum(len(line.points) for line in self.lines) < 2:
            return "only one value, and one bar compares nothing"
        if self.panel.kind == "scatter":
            overlaps = {overlap for pairs in self.pairs.values() for overlap in pairs.overlap.tolist()}
            if len(overlaps) < 2:
                return "only one overlap, and transfer at one overlap shows no trend"
        return None


def shown(plan: Plan, store: Store) -> tuple[Shown, ...]:
    """Every panel of the plan's figure. Raises `StoreError` if stored values are damaged."""
    figure = plan.suite.run.figure
    if figure is None:
        raise ValueError(f"suite {plan.suite.run.name} has no figure")
    results = measure_plan(plan, store)
    return tuple(_shown(plan.suite.paper, panel, results) for panel in figure.panels)


def _shown(suite: SuiteSpec, panel: Panel, results: Sequence[CellResult]) -> Shown:
    missing: list[PlannedCell] = []

    def line(series: Series, question: tuple[str | None, str | None]) -> Line:
        chosen = [one for one in results if _shows(one.cell, suite, panel, series, *question)]
        missing.extend(one.cell for one in chosen if one.value is None)
        points = [Point(_ratio(one.cell), one, one.value) for one in chosen if one.value is not None]
        metric = chosen[0].cell.columns["metric"] if chosen else ""
        ordered = tuple(sorted(points, key=lambda point: point.ratio or 0.0))
        return Line(series.label, ordered, metric, series.group)

    lines = [line(one, panel.asked(one)) for one in panel.series]
    questions = dict.fromkeys(panel.asked(one) for one in panel.series)
    dashed = []
    if panel.dashed is not None:
        dashed = [line(Series(defense=panel.dashed, label=panel.dashed_label), each) for each in questions]
    pairs: dict[str, Pairs] = {}
    if panel.kind == "scatter":
        overlap = next(name for name, measure in suite.measures.items() if isinstance(measure, MaskOverlapSpec))
        for series, one in zip(panel.series, lines, strict=True):
            masks = line(series, (None, overlap))
            for point, shared in zip(one.points, masks.points, strict=False):
                pairs[series.label] = pairs_of(point.result, shared.result, panel.gain)
        # A transfer without its overlap has no place on the axes.
        lines = [one if one.label in pairs else replace(one, points=()) for one in lines]
    heat = heat_of(lines[0].points[0].result) if panel.kind == "heatmap" and lines[0].points else None
    samples = {}
    if panel.kind == "distribution":
        samples = {one.label: _samples(one.points[0].result) for one in lines if one.points}
    return Shown(panel, tuple(lines), tuple(dashed), tuple(missing), heat, samples, pairs)


def _shows(
    cell: PlannedCell, suite: SuiteSpec, panel: Panel, series: Series, attack: str | None, measured: str | None
) -> bool:
    """Whether the cell is of this defense at the panel's place, made with its own images or those of its source."""
    columns = cell.columns
    if (cell.defense, columns["dataset"], columns["network"]) != (series.defense, panel.dataset, panel.network):
        return False
    if measured is None:
        source = "" if series.source is None else suite.defenses[series.source].report_as or series.source
        return cell.attack_key == attack and columns["attack_source"] == source
    spec = suite.measures[measured]
    asked = (spec.report_as or METRICS[spec.kind], spec.variant)
    return bool(cell.values) and (columns["metric"], columns["variant"]) == asked


def _ratio(cell: PlannedCell) -> float | None:
    text = cell.columns["ratio"]
    return float(text) if text else None


def _samples(result: CellResult) -> NDArray[np.float64]:
    """Values of all images under all seeds, sorted. Raises `StoreError` for a measure that is not of images."""
    found = [seed.images for seed in (result.quantity.seeds if result.quantity is not None else ())]
    parts = [images for images in found if images is not None]
    if not parts:
        raise StoreError(f"{describe(result.cell)}: it has no values of single images, so there is no distribution")
    return np.sort(np.concatenate(parts))


def series_of(panel: Panel) -> tuple[Series, ...]:
    """The panel's series, each label once: what a legend lists."""
    return tuple({series.label: series for series in panel.series}.values())
