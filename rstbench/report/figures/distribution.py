"""Panels of distributions: the share of test images up to a value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rstbench.report.figures.points import Shown, series_of
from rstbench.report.figures.style import COLOURS, SMALL, dressed, value_label
from rstbench.report.statistics import LEVEL

_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 5)))


def draw_distribution(axes: Any, shown: Shown) -> None:
    """Draw empirical distribution functions onto matplotlib axes, each with its 95 % band.

    The band is that of Dvoretzky, Kiefer and Wolfowitz, with the number of images of one seed: the same image under
    another seed is no new image.
    """
    labels = [series.label for series in series_of(shown.panel)]
    for line in shown.lines:
        values = shown.samples.get(line.label)
        if values is None or not line.points:
            continue
        place = labels.index(line.label)
        images = len(values) / len(line.points[0].cell.seeds)
        half = 100 * math.sqrt(math.log(2 / (1 - LEVEL)) / (2 * images))
        share = 100 * np.arange(1, len(values) + 1) / len(values)
        axes.fill_between(
            values, np.maximum(share - half, 0), np.minimum(share + half, 100), step="post", color=COLOURS[place],
            alpha=0.15, linewidth=0,
        )  # fmt: skip
        axes.step(
            values, share, where="post", color=COLOURS[place], linestyle=_STYLES[place], linewidth=1.4, label=line.label
        )
    axes.set_xlabel(value_label(line.metric for line in shown.lines), fontsize=SMALL)
    axes.set_ylabel("share of test images, %", fontsize=SMALL)
    axes.set_xlim(left=0)
    axes.set_ylim(0, 100)
    dressed(axes, shown)
