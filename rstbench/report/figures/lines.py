"""Panels of lines: a value over the remaining ratio, with intervals, dashed lines, and a zoomed inset."""

from __future__ import annotations

from typing import Any

from rstbench.report.figures.points import Line, Shown, series_of
from rstbench.report.figures.style import (
    COLOURS,
    DENSE,
    MARKERS,
    SMALL,
    TINY,
    bars_of,
    dressed,
    percent_text,
    value_label,
)

_INSET_PLACE = (0.12, 0.075, 0.85, 0.365)
_FREE_BELOW = 0.5
"""Share of the height that the inset takes: data stay above it, whatever they are."""
_APART = 0.5


def draw_lines(axes: Any, shown: Shown) -> None:
    """Draw a panel of lines onto matplotlib axes; x: remaining ratio in percent, from 0 to 100."""
    _plot(axes, shown, 4.0, _APART)
    axes.set_xlabel("remaining ratio, %", fontsize=SMALL)
    axes.set_ylabel(value_label(line.metric for line in shown.lines), fontsize=SMALL)
    axes.set_xlim(0, 100)
    # An inset takes half of the height, and half of the ticks with it.
    axes.locator_params(axis="y", nbins=7 if shown.panel.inset is None else 13, steps=[1, 2, 5, 10])
    low, high = _range(shown)
    dressed(axes, shown)
    if shown.panel.inset is None:
        axes.set_ylim(max(0.0, low - 0.06 * (high - low)), high + 0.06 * (high - low))
        return
    begin, end = shown.panel.inset
    top = high + 0.1 * (high - low)
    bottom = (low - _FREE_BELOW * top) / (1 - _FREE_BELOW)
    # Ticks stop where the data do: beneath is only the inset's ground.
    axes.set_ylim(bottom, top)
    ticks = [tick for tick in axes.get_yticks() if low - 0.02 * (top - bottom) <= tick <= top]
    axes.set_yticks(ticks)
    _inset(axes, shown, begin, end)


def _plot(axes: Any, shown: Shown, size: float, apart: float) -> None:
    """apart: shift between series, in percent of remaining ratio, so that their intervals do not hide each other."""
    labels = [series.label for series in series_of(shown.panel)]
    for line in shown.lines:
        place = labels.index(line.label)
        shift = (place - (len(labels) - 1) / 2) * apart
        axes.errorbar(
            [100 * (point.ratio or 0.0) + shift for point in line.points],
            [point.value for point in line.points],
            yerr=bars_of(line.points),
            color=COLOURS[place],
            marker=MARKERS[place],
            markersize=size,
            linewidth=1.3,
            elinewidth=0.8,
            capsize=1.8,
            label=line.label,
        )
    for line in shown.dashed:
        for point in line.points:
            colour = _colour_of(shown, line)
            axes.axhspan(point.low, point.high, color=colour, alpha=0.10, linewidth=0)
            axes.axhline(point.value, color=colour, linestyle="--", linewidth=1.2)
    # In the legend dashes are grey, whatever lines they belong to.
    if any(line.points for line in shown.dashed):
        axes.plot([], [], color=DENSE, linestyle="--", linewidth=1.2, label=shown.dashed[0].label)


def _colour_of(shown: Shown, dashed: Line) -> str:
    """That of the one series measured the same way, where there are several ways; else grey."""
    same = [line.label for line in shown.lines if line.metric == dashed.metric]
    labels = [series.label for series in series_of(shown.panel)]
    return COLOURS[labels.index(same[0])] if len(same) == 1 and len(shown.dashed) > 1 else DENSE


def _range(shown: Shown) -> tuple[float, float]:
    """Lowest and highest end of all intervals."""
    low, high = min(point.low for point in shown.found), max(point.high for point in shown.found)
    return (low, high) if high > low else (low - 1, high + 1)


def _inset(axes: Any, shown: Shown, begin: float, end: float) -> None:
    inside = [p for line in shown.lines for p in line.points if begin <= (p.ratio or 0.0) <= end]
    zoomed = axes.inset_axes(_INSET_PLACE)
    zoomed.tick_params(labelsize=TINY, length=2, pad=1.5)
    if not inside:
        zoomed.text(0.5, 0.5, "no value in this range", ha="center", va="center", fontsize=TINY)
        zoomed.set_xticks([])
        zoomed.set_yticks([])
        return
    _plot(zoomed, shown, 3.0, _APART * (end - begin))
    low, high = min(p.low for p in inside), max(p.high for p in inside)
    room = 0.07 * ((high - low) or 2.0)
    zoomed.set_xlim(100 * begin - 0.6, 100 * end + 0.6)
    zoomed.set_ylim(low - room, high + room)
    ticks = [t for t in (0.01, 0.05, 0.10, 0.15, 0.20) if begin <= t <= end] or [begin, end]
    zoomed.set_xticks([100 * tick for tick in ticks], [percent_text(tick) for tick in ticks])
    zoomed.locator_params(axis="y", nbins=4, steps=[1, 2, 5, 10])
    zoomed.grid(alpha=0.25, linewidth=0.5)
    axes.indicate_inset_zoom(zoomed, edgecolor="#888888", linewidth=0.7, alpha=0.6)
