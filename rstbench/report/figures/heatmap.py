"""Panels of transfer matrices: accuracy of each member on the images made against each member."""

from __future__ import annotations

from typing import Any

import numpy as np

from rstbench.report.figures.points import Shown
from rstbench.report.figures.style import SMALL, headline, percent_text

_COLOURS = "cividis"
_DARK = 0.55
"""Share of the colour scale below which a cell is dark, and its text white."""


def draw_heatmap(axes: Any, shown: Shown) -> None:
    """Draw an annotated matrix onto matplotlib axes: in each cell the accuracy, and half the width of its interval.

    Rows: what the images are made against; columns: what judges them. cividis is made for any colour vision.
    """
    heat = shown.heat
    if heat is None:
        raise ValueError("a heat map without a matrix")
    low, high = float(heat.values.min()), float(heat.values.max())
    high = high if high > low else low + 1
    image = axes.imshow(heat.values, cmap=_COLOURS, vmin=low, vmax=high, aspect="equal")
    larger = max(heat.values.shape)
    size = 8.0 if larger <= 5 else 7.0 if larger <= 7 else 5.0
    for (row, column), value in np.ndenumerate(heat.values):
        colour = "white" if (value - low) / (high - low) < _DARK else "black"
        half = (heat.high[row, column] - heat.low[row, column]) / 2
        axes.text(column, row - 0.08, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=size)
        axes.text(column, row + 0.27, f"±{half:.1f}", ha="center", va="center", color=colour, fontsize=0.78 * size)
    ratios = all(_is_ratio(label) for label in (*heat.sources, *heat.members))
    unit = ": remaining ratio, %" if ratios else ""
    axes.set_xticks(range(len(heat.members)), [_text(label, ratios) for label in heat.members], fontsize=SMALL)
    axes.set_yticks(range(len(heat.sources)), [_text(label, ratios) for label in heat.sources], fontsize=SMALL)
    if not ratios:
        axes.tick_params(axis="x", rotation=45)
    axes.set_xlabel(f"judged by{unit}", fontsize=SMALL)
    axes.set_ylabel(f"images made against{unit}", fontsize=SMALL)
    axes.set_title(headline(shown), fontsize=SMALL + 0.5)
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("robust accuracy, %", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)


def _is_ratio(label: str) -> bool:
    try:
        return 0 < float(label) <= 1
    except ValueError:
        return False


def _text(label: str, ratios: bool) -> str:
    return percent_text(float(label)) if ratios else label
