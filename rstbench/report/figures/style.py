"""What all panels have in common: colours, markers, words of axes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rstbench.report.figures.points import Point, Shown

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
"""Okabe and Ito's palette without its yellow, which white paper swallows; told apart with any colour vision."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++", "oo", "**")
DENSE = "#444444"

_WIDEST = 46
"""Letters of a line above a panel: more would reach its neighbour."""

SMALL, TINY = 8, 7
"""Sizes of ticks and labels, and of notes, in points."""

GAIN = "robust_acc_gain"
"""Metric of points above the accuracy on images made against oneself."""
_METRICS = {
    GAIN: "gain over white-box attack, points",
    "natural_acc": "natural accuracy, %",
    "robust_acc": "robust accuracy, %",
    "feature_distance": "relative distance of feature maps",
    "params_m": "parameters, millions",
    "bytes": "bytes",
    "mask_overlap": "mask overlap",
}


def value_label(metrics: Iterable[str]) -> str:
    """Name of the value axis, with its unit."""
    found = set(metrics)
    if len(found) == 1:
        (metric,) = found
        return _METRICS.get(metric, metric)
    return "accuracy, %" if found == {"natural_acc", "robust_acc"} else ", ".join(sorted(found))


def percent_text(ratio: float) -> str:
    """A remaining ratio in percent, e.g. "5" or "0.5"."""
    return f"{100 * ratio:.6g}"


def bars_of(points: Iterable[Point]) -> list[list[float]]:
    """Lengths of error bars, below and above: what matplotlib asks for."""
    points = list(points)
    return [[max(0.0, p.value - p.low) for p in points], [max(0.0, p.high - p.value) for p in points]]


def headline(shown: Shown) -> str:
    """Title of a panel; beneath it what was run, where that is not what the title says."""
    for point in shown.found:
        run, columns = point.cell.run, point.cell.columns
        same = run["run_dataset"] == columns["dataset"] and "substitute:network" not in point.cell.substitutes
        if same and run["run_eps"] == columns["eps"]:
            break
        words = f"run: {run['run_network']} on {run['run_dataset']}"
        if run["run_eps"] == columns["eps"]:
            return f"{shown.panel.title}\n{words}"
        epsilon = f"epsilon {run['run_eps']}" + ("/255" if columns["norm"] == "linf" else "")
        fits = len(words) + len(epsilon) < _WIDEST
        return f"{shown.panel.title}\n{words},{' ' if fits else chr(10)}{epsilon}"
    return shown.panel.title


def dressed(axes: Any, shown: Shown) -> None:
    """Title, tick sizes and a faint grid."""
    axes.set_title(headline(shown), fontsize=SMALL + 0.5)
    axes.tick_params(labelsize=SMALL)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
