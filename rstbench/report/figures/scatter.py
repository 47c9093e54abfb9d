"""Panels of pairs: transfer between two members of a switch, over the overlap of their masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from rstbench.report.figures.points import Shown, series_of
from rstbench.report.figures.style import COLOURS, MARKERS, SMALL, dressed, value_label


def draw_scatter(axes: Any, shown: Shown) -> None:
    """Draw ordered pairs of members onto matplotlib axes, one colour and marker for each switch.

    x: overlap of the pair's masks; a triangle on the axis marks the mean overlap of random masks of as many weights.
    y: accuracy of one on images made against the other. A dashed line is the mean of members attacked themselves, whose
    overlap would be 1; drawn there, they would leave the pairs no room.
    """
    labels = [series.label for series in series_of(shown.panel)]
    for line in shown.lines:
        pairs = shown.pairs.get(line.label)
        if pairs is None:
            continue
        place = labels.index(line.label)
        colour = COLOURS[place]
        accuracy = pairs.accuracy
        axes.errorbar(
            pairs.overlap,
            accuracy,
            yerr=[np.maximum(accuracy - pairs.low, 0), np.maximum(pairs.high - accuracy, 0)],
            fmt="none",
            ecolor=colour,
            elinewidth=0.7,
            alpha=0.3,
        )
        axes.plot(
            pairs.overlap,
            accuracy,
            linestyle="none",
            marker=MARKERS[place],
            markersize=4.5,
            markerfacecolor=colour,
            markeredgecolor="white",
            markeredgewidth=0.4,
            label=line.label,
        )
        axes.axhline(pairs.white_box, color=colour, linestyle="--", linewidth=1.1)
        if pairs.by_chance is not None:
            axes.plot(
                [pairs.by_chance], [0.0], marker=6, markersize=8, color=colour, alpha=0.85, clip_on=False,
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
    axes.set_xlabel("overlap of the two masks, |A and B| / |A or B|", fontsize=SMALL)
    axes.set_ylabel(value_label(line.metric for line in shown.lines), fontsize=SMALL)
    axes.margins(x=0.06, y=0.08)
    dressed(axes, shown)
