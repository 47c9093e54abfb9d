"""Panels of pairs: transfer between two members of a switch, over the overlap of their masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from rstbench.report.figures.points import Shown, series_of
from rstbench.report.figures.style import COLOURS, DENSE, GAIN, MARKERS, SMALL, dressed, value_label

_APART = 0.014
"""Shift between series, as a share of the horizontal range: equal overlaps would hide each other."""


def draw_scatter(axes: Any, shown: Shown) -> None:
    """Draw ordered pairs of members onto matplotlib axes, one colour and marker for each switch.

    x: overlap of the pair's masks; a triangle on the axis marks the mean overlap of random masks of as many weights.
    y: accuracy of one on images made against the other, or what it gains over its accuracy on images made against
    itself. Dashed: members attacked themselves, their mean in each switch, or no gain. Their overlap would be 1; drawn
    there, they would leave the pairs no room.
    """
    labels = [series.label for series in series_of(shown.panel)]
    overlaps = [*(x for pairs in shown.pairs.values() for x in (*pairs.overlap.tolist(), pairs.by_chance or 0.0))]
    apart = _APART * (max(overlaps) - min(overlaps))
    gain = shown.panel.gain
    for line in shown.lines:
        pairs = shown.pairs.get(line.label)
        if pairs is None:
            continue
        place = labels.index(line.label)
        colour = COLOURS[place]
        x = pairs.overlap + (place - (len(labels) - 1) / 2) * apart
        values = pairs.values
        ends = [np.maximum(values - pairs.low, 0), np.maximum(pairs.high - values, 0)]
        axes.errorbar(x, values, yerr=ends, fmt="none", ecolor=colour, elinewidth=0.7, alpha=0.3)
        axes.plot(
            x,
            values,
            linestyle="none",
            marker=MARKERS[place],
            markersize=4.5,
            markerfacecolor=colour,
            markeredgecolor="white",
            markeredgewidth=0.4,
            label=line.label,
        )
        if not gain:
            axes.axhline(pairs.white_box, color=colour, linestyle="--", linewidth=1.1)
        if pairs.by_chance is not None:
            axes.plot(
                [pairs.by_chance + (place - (len(labels) - 1) / 2) * apart], [0.0], marker=6, markersize=7,
                color=colour, clip_on=False, transform=axes.get_xaxis_transform(),
            )  # fmt: skip
    if gain:
        axes.axhline(0.0, color=DENSE, linestyle="--", linewidth=1.1)
    axes.set_xlabel("overlap of the two masks, |A and B| / |A or B|", fontsize=SMALL)
    axes.set_ylabel(value_label([GAIN] if gain else (line.metric for line in shown.lines)), fontsize=SMALL)
    axes.margins(x=0.06, y=0.08)
    dressed(axes, shown)
