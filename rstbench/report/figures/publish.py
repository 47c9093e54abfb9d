"""Write a figure: PNG and SVG, and every point of it as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rstbench.errors import SpecError, StoreError
from rstbench.plan import Plan, PlannedCell
from rstbench.report.figures.page import page
from rstbench.report.figures.pairs import Heat
from rstbench.report.figures.points import Line, Point, Shown, shown
from rstbench.report.figures.style import GAIN
from rstbench.report.files import write
from rstbench.report.measure import describe
from rstbench.report.missing import lacking
from rstbench.report.setting import require_one_setting
from rstbench.store import Store

COLUMNS = (
    "figure", "panel", "kind", "series", "group", "x", "source", "member", "value", "ci_low", "ci_high", "interval",
    "n", "seeds", "dataset", "network", "defense", "attack", "norm", "eps", "metric", "variant",
    "profile", "run_dataset", "run_network", "run_eps", "flags",
)  # fmt: skip
"""The columns of the points file, in order.

x: remaining ratio; of a distribution the value, whose share is `value`; of a scatter the overlap of masks, which of
kind `by_chance` is that of random masks; the members attacked themselves are of kind `white_box`.
"""


@dataclass(frozen=True)
class Drawn:
    """Files that were written, and what the figure lacks: in words, one entry for each cell."""

    paths: tuple[Path, ...]
    missing: tuple[str, ...]


def publish_figure(plan: Plan, store: Store, out: Path, command: str, partial: bool = False) -> Drawn:
    """Write figure.png, figure.svg and points.csv into `out`, which is created.

    command: what computes the plan's cells, for messages. partial: draw what there is; panels say what they lack.
    Everything comes from this plan alone, so from one profile; and every name of a data set stands for one fingerprint.
    Raises `StoreError` where the store lacks a cell (unless partial) or all of them, or `out` cannot be written;
    `SpecError` for a suite without a figure, and for a figure of a single point.
    """
    run = plan.suite.run
    if run.figure is None:
        raise SpecError(f"suite {run.name} has no `figure`")
    require_one_setting([plan])
    panels = shown(plan, store)
    missing = _missing(panels)
    if missing and (not partial or not any(panel.found for panel in panels)):
        found = {id(point.cell) for panel in panels for point in panel.found}
        raise StoreError(lacking(plan, store, missing, len(missing) + len(found), command))
    refused = [(panel, reason) for panel in panels if (reason := panel.refusal()) is not None]
    if refused and (not partial or len(refused) == len(panels)):
        panel, reason = refused[0]
        raise SpecError(
            f"suite {run.name}, profile {plan.suite.profile}, panel {panel.panel.title!r}: {reason}; "
            "give its series more `ratios`, or choose a profile that has more"
        )
    files = page(plan, panels, _note(plan, panels, missing), ("png", "svg"))
    named = {"figure.png": files["png"], "figure.svg": files["svg"], "points.csv": _points(plan, panels).encode()}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, data in named.items():
            write(out / name, _filled_with(data))
    except OSError as error:
        raise StoreError(
            f"the figure cannot be written to {out} ({error.strerror or error}); choose another folder with --out"
        ) from error
    return Drawn(tuple(out / name for name in named), tuple(describe(cell) for cell in missing))


def _filled_with(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def _missing(panels: Iterable[Shown]) -> list[PlannedCell]:
    return list({id(cell): cell for panel in panels for cell in panel.missing}.values())


def _note(plan: Plan, panels: Sequence[Shown], missing: Sequence[PlannedCell]) -> str:
    points = [point for panel in panels for point in panel.found]
    images = sorted({point.result.n for point in points if point.result.n is not None})
    count = " to ".join(dict.fromkeys((str(images[0]), str(images[-1])))) if images else ""
    named = [_INTERVALS[kind] for kind in sorted({kind for panel in panels for kind in panel.intervals})]
    seeds = sorted({seed for point in points for seed in point.cell.seeds})
    text = f"95 % intervals: {', '.join(named)}; " if named else ""
    text += f"n = {count} test images; " if count else ""
    text += f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}."
    flags = {flag.removeprefix("substitute:") for point in points for flag in point.cell.substitutes}
    if flags:
        text += f" Profile {plan.suite.profile} substitutes: {', '.join(sorted(flags))}."
    if any(panel.panel.kind == "lines" and len(panel.lines) > 1 for panel in panels):
        text += " Points of one ratio stand side by side."
    if any(panel.pairs for panel in panels):
        own = "members" if any(panel.panel.gain for panel in panels) else "mean of members"
        text += f" Scatter: dashed, {own} attacked themselves (white box); triangle, mean overlap of random masks."
        text += " Series of equal overlap stand side by side."
    if missing:
        text += f" {len(missing)} of the figure's cells are not run."
    note = plan.suite.run.figure.note if plan.suite.run.figure is not None else ""
    return text + (f"\n{note}" if note else "")


_INTERVALS = {"wilson": "Wilson's", "bootstrap": "bootstrap over images", "t over seeds": "Student's t over seeds"}


def _points(plan: Plan, panels: Sequence[Shown]) -> str:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    number = plan.suite.run.figure.paper if plan.suite.run.figure is not None else None
    for panel in panels:
        for row in _rows(panel):
            writer.writerow({"figure": number or "", "profile": plan.suite.profile, **row})
    return sink.getvalue()


def _rows(panel: Shown) -> Iterator[dict[str, object]]:
    if panel.heat is not None:
        (point,) = panel.lines[0].points
        base = _base(panel, point, panel.lines[0].label, "") | {"kind": "heatmap", "interval": panel.heat.intervals}
        for place in np.ndindex(panel.heat.values.shape):
            yield base | _entry(panel.heat, place)
        return
    for line in panel.lines:
        if line.label in panel.pairs:
            yield from _pairs(panel, line)
            continue
        for point in line.points:
            base = _base(panel, point, line.label, line.group) | {"kind": panel.panel.kind}
            if panel.panel.kind == "distribution":
                values = panel.samples[line.label]
                for share in range(0, 101):
                    at = float(np.quantile(values, share / 100))
                    yield base | {"x": f"{at:.6g}", "value": share, "interval": ""}
                continue
            at_ratio = {"x": "" if point.ratio is None else f"{point.ratio:.6g}"}
            yield base | at_ratio | _numbers(point.value, point.low, point.high)
    for line in panel.dashed:
        for point in line.points:
            yield (
                _base(panel, point, line.label, "") | {"kind": "dashed"} | _numbers(point.value, point.low, point.high)
            )


def _pairs(panel: Shown, line: Line) -> Iterator[dict[str, object]]:
    """Each ordered pair; each member attacked itself, whose mask overlaps with itself wholly; random masks."""
    pairs = panel.pairs[line.label]
    base = _base(panel, line.points[0], line.label, "") | {"kind": "scatter", "interval": pairs.heat.intervals}
    drawn = {"interval": pairs.drawn.intervals} | ({"metric": GAIN} if panel.panel.gain else {})
    for place, overlap in zip(pairs.places.tolist(), pairs.overlap.tolist(), strict=True):
        yield base | drawn | {"x": f"{overlap:.6g}"} | _entry(pairs.drawn, tuple(place))
    for member in range(len(pairs.heat.members)):
        yield base | {"kind": "white_box", "x": 1} | _entry(pairs.heat, (member, member))
    if pairs.by_chance is not None:
        yield base | {"kind": "by_chance", "x": f"{pairs.by_chance:.6g}", "interval": ""}


def _entry(heat: Heat, place: tuple[int, ...]) -> dict[str, object]:
    numbers = (heat.values[place], heat.low[place], heat.high[place])
    return {"source": heat.sources[place[0]], "member": heat.members[place[1]]} | _numbers(*map(float, numbers))


def _numbers(value: float, low: float, high: float) -> dict[str, object]:
    return {"value": f"{value:.6g}", "ci_low": f"{low:.6g}", "ci_high": f"{high:.6g}"}


def _base(panel: Shown, point: Point, series: str, group: str) -> dict[str, object]:
    columns = point.cell.columns
    same = {name: columns[name] for name in COLUMNS if name in columns}
    return {
        **same,
        **point.cell.run,
        "panel": panel.panel.title,
        "series": series,
        "group": group,
        "n": "" if point.result.n is None else point.result.n,
        "interval": point.interval,
        "seeds": " ".join(map(str, point.cell.seeds)),
        "flags": " ".join(sorted(point.cell.substitutes)),
    }
