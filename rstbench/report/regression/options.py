"""What counts as a change."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rstbench.errors import SpecError


@dataclass(frozen=True)
class Options:
    """margin: points within which a difference does not matter. alpha: level of tests and intervals.

    drop: points that a significant drop must have to count as a regression, and then it does even within the margin.
    None: any, unless it is shown to lie within the margin. power: chance with which "the n that would" would. strict:
    a row of the baseline that is missing counts as a regression.
    Raises `SpecError` for values out of range.
    """

    margin: float = 1.0
    alpha: float = 0.05
    drop: float | None = None
    power: float = 0.8
    strict: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.margin) and 0 < self.margin <= 100):
            raise SpecError(f"--margin {self.margin:g}: must be points above 0, at most 100")
        if not 1e-12 <= self.alpha < 0.5:
            raise SpecError(f"--alpha {self.alpha:g}: must be a level from 1e-12 up to 0.5")
        if self.drop is not None and not (math.isfinite(self.drop) and 0 <= self.drop <= 100):
            raise SpecError(f"--drop {self.drop:g}: must be points between 0 and 100")
        if not 0.5 <= self.power < 1:
            raise SpecError(f"--power-level {self.power:g}: must be a chance of at least 0.5 and below 1")
