"""Transfer matrices as heat maps: a table whose cells are shaded, so that it can be read without seeing the shades."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from rstbench.errors import StoreError
from rstbench.report.leaderboard.schema import Transfer

SHADES = 20
"""The style sheet has a class for each shade, h0 to h20."""


@dataclass(frozen=True)
class Heat:
    """A heat map. rows: source -> (accuracy as text, shade 0 to `SHADES`, whether the source is the member itself)."""

    attack: str
    members: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, int, bool], ...]], ...]
    low: str
    high: str


def heats(transfers: Iterable[Transfer]) -> list[Heat]:
    """The heat maps of an entry, each once: suites that share a row bring its matrix twice. Raises as `heat`."""
    return [heat(each) for each in dict.fromkeys(transfers)]


def heat(transfer: Transfer) -> Heat:
    """Shades from the lowest to the highest accuracy of the matrix. Raises `StoreError` if it is none."""
    values = [value for row in transfer.matrix for value in row]
    whole = len(transfer.matrix) == len(transfer.sources)
    if not whole or any(len(row) != len(transfer.members) for row in transfer.matrix) or not values:
        raise StoreError(f"transfer matrix of {transfer.attack!r}: not of its sources and members")
    if not all(math.isfinite(value) and 0 <= value <= 100 for value in values):
        raise StoreError(f"transfer matrix of {transfer.attack!r}: an accuracy is not within 0 and 100 %")
    low, high = min(values), max(values)
    width = (high - low) or 1.0
    square = transfer.sources == transfer.members  # labels alone may be shared by several members
    rows = tuple(
        (
            source,
            tuple(
                (f"{value:.1f}", round(SHADES * (value - low) / width), square and i == j)
                for j, value in enumerate(row)
            ),
        )
        for i, (source, row) in enumerate(zip(transfer.sources, transfer.matrix, strict=True))
    )
    return Heat(transfer.attack, transfer.members, rows, f"{low:.1f}", f"{high:.1f}")
