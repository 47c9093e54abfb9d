"""Panels of bars: one value for each series, in groups."""

from __future__ import annotations

from typing import Any

from rstbench.report.figures.points import Shown, series_of
from rstbench.report.figures.style import COLOURS, HATCHES, SMALL, bars_of, dressed, value_label

_GROUP_WIDTH = 0.8


def draw_bars(axes: Any, shown: Shown) -> None:
    """Draw a panel of bars onto matplotlib axes; bars of one group stand together, above its name."""
    labels = [series.label for series in series_of(shown.panel)]
    groups = list(dict.fromkeys(line.group for line in shown.lines))
    width = _GROUP_WIDTH / len(labels)
    for line in shown.lines:
        place = labels.index(line.label)
        x = groups.index(line.group) + (place - (len(labels) - 1) / 2) * width
        for point in line.points:
            axes.bar(
                [x],
                [point.value],
                0.9 * width,
                yerr=bars_of([point]),
                color=COLOURS[place],
                hatch=HATCHES[place],
                edgecolor="white",
                linewidth=0.4,
                error_kw={"elinewidth": 0.9, "capsize": 2.0, "ecolor": "black"},
                label=line.label,
            )
    named = any(groups)
    axes.set_xticks(range(len(groups)), groups if named else [""] * len(groups))
    if named and all("/255" in group for group in groups):
        axes.set_xlabel("magnitude of the noise (pixel range is 1)", fontsize=SMALL)
    axes.set_ylabel(value_label(line.metric for line in shown.lines), fontsize=SMALL)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylim(bottom=0)
    dressed(axes, shown)
    axes.grid(axis="x", visible=False)
