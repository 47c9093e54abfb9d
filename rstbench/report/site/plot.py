"""Accuracy over remaining ratio: where the marks of the plot are. Its colours are the style sheet's, dark mode too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from rstbench.report.leaderboard.schema import Entry
from rstbench.report.site.columns import ratios_of

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 14, 44
"""Of the drawing, in its own units; the page scales it."""
NEIGHBOURS = 60
"""Other entries that are drawn: those with the highest worst case. More would hide each other."""
_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Mark:
    """A point of a series, or a line where x and x2 differ. low, high: its interval, on the page's axis."""

    x: float
    x2: float
    y: float
    low: float
    high: float
    words: str


@dataclass(frozen=True)
class Plot:
    """The drawing of an entry. ticks: (place, words) of both axes; own and other marks by metric."""

    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    own: dict[str, Mark]
    others: dict[str, list[Mark]]
    members: list[Mark] = field(default_factory=list)
    members_attack: str = ""


def plot(entry: Entry, peers: Sequence[Entry]) -> Plot | None:
    """Where an entry stands among those of the same network under the same threat model; None without a ratio.

    Clean accuracy and worst case over the share of weights that is kept. A switch is a line from its sparsest to its
    densest member; the accuracy of each of these on images made against itself is drawn where it was measured.
    """
    if not ratios_of(entry.row["remaining_ratio"]):
        return None
    near = [each for each in peers if each.row["network"] == entry.row["network"] and each is not entry]
    near = sorted(near, key=lambda each: -float(each.row["worst"]))
    near = list(islice((each for each in near if ratios_of(each.row["remaining_ratio"])), NEIGHBOURS))
    attack, members = _members(entry)
    axis = _Axis([*_all_ratios([entry, *near]), *(ratio for _, ratio, _ in members)])
    metrics = [metric for metric in ("clean", "worst") if entry.row[metric]]
    return Plot(
        across=[(axis.x(tick), f"{100 * tick:g}") for tick in axis.ticks],
        up=[(_y(value), str(value)) for value in range(0, 101, 20)],
        own={metric: _mark(entry, metric, axis) for metric in metrics},
        others={m: [_mark(each, m, axis) for each in near if each.row[m]] for m in metrics},
        members=[_point(axis.x(ratio), value, f"{name}: {value:.1f} %") for name, ratio, value in members],
        members_attack=attack,
    )


def _all_ratios(entries: Iterable[Entry]) -> list[float]:
    return [ratio for entry in entries for ratio in ratios_of(entry.row["remaining_ratio"])]


class _Axis:
    """The share of weights, on a logarithmic scale from the tick below the least to 1."""

    def __init__(self, ratios: Sequence[float]) -> None:
        least = min(ratios)
        below = [tick for tick in _TICKS if tick <= least]
        self.low = min(below[-1] if below else least, 0.5)
        self.ticks = [tick for tick in _TICKS if tick >= self.low]

    def x(self, ratio: float) -> float:
        share = math.log(ratio / self.low) / math.log(1 / self.low)
        return round(LEFT + 8 + share * (WIDTH - LEFT - RIGHT - 16), 1)


def _y(percent: float) -> float:
    return round(HEIGHT - BOTTOM - min(100.0, max(0.0, percent)) / 100 * (HEIGHT - TOP - BOTTOM), 1)


def _point(x: float, percent: float, words: str) -> Mark:
    return Mark(x, x, _y(percent), _y(percent), _y(percent), words)


def _mark(entry: Entry, metric: str, axis: _Axis) -> Mark:
    row, ratios = entry.row, ratios_of(entry.row["remaining_ratio"])
    return Mark(
        axis.x(ratios[0]),
        axis.x(ratios[-1]),
        _y(float(row[metric])),
        _y(float(row[f"{metric}_low"])),
        _y(float(row[f"{metric}_high"])),
        f"{row['name']}: {'clean' if metric == 'clean' else 'worst case'} {row[metric]} %",
    )


def _members(entry: Entry) -> tuple[str, list[tuple[str, float, float]]]:
    """(label, ratio, accuracy on images made against itself) of each member of a switch, from its first matrix.

    Members of a matrix stand in the order of the networks of a seed.
    """
    networks = [each for each in entry.networks if each.seed == entry.networks[0].seed]
    for transfer in entry.transfer:
        if len(networks) < 2 or transfer.sources != transfer.members or len(networks) != len(transfer.members):
            continue
        ratios = [ratios_of(each.ratio) for each in networks]
        own = [transfer.matrix[i][i] for i in range(len(networks))]
        found = [(m, r[0], v) for m, r, v in zip(transfer.members, ratios, own, strict=True) if r]
        return transfer.attack, sorted(found, key=lambda each: each[1])
    return "", []
