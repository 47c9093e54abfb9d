"""How right and wrong become the score of an image.

With c[s, i, m] in {0, 1}: member m is right on image i as made against source s, q_m: the probability that the defense
draws member m, and e[s, i] = sum_m q_m c[s, i, m] the expected accuracy on that image:

- mean: mean_s e[s, i]. The adversary draws its source uniformly, and the defense its member, independently.
- worst_source: e[s*, i], with s* the source of the lowest mean over images (the first of several). The adversary
  knows which source does most damage; s* is chosen on the images that are scored, so it is a worst case, not an
  estimate of one.
- any_of: (mean_s e[s, i]) ** tries. Every try draws source and member anew, independently; the image survives only if
  the defense is right in every one.
- pointwise: min_s e[s, i]. The adversary knows the best source for each image.
- game: min_s sum_m q*_m c[s, i, m], with q* fitted on other, held-out images to maximise just that (`game.fit`).
  The sources are those at hand, so it is an upper bound on the robust accuracy of the mixture q*. A defense that
  commits to one member has q* in {0, 1}^M (`game.best_member`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rstbench.plan import PlannedCell
from rstbench.report import game
from rstbench.report.statistics import Right

_DIGITS = 12


@dataclass(frozen=True)
class Scored:
    """scores: (N,) in [0, 1]. source: number of the one that was chosen for all images; mixture: of the game."""

    scores: NDArray[np.float64]
    source: int | None = None
    mixture: tuple[float, ...] = ()


def expected(right: Right, probabilities: Sequence[float]) -> NDArray[np.float64]:
    """Expected accuracy e, (..., N), of a draw among members. right: bool (..., N, M)."""
    e: NDArray[np.float64] = right.astype(np.float64) @ np.asarray(probabilities, dtype=np.float64)
    return e


def tidied(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores within [0, 1], and equal where they are but for rounding: weights like 1/6 do not sum to 1 in binary."""
    return np.clip(np.round(scores, _DIGITS), 0.0, 1.0)


def score(cell: PlannedCell, right: Right, held_out: Right | None = None) -> Scored:
    """Score images as the cell asks. right: bool (S, N, M); held_out: the same of other images, for the game only.

    Raises ValueError for a game without held-out images, and for a kind of score that is not known.
    """
    if cell.score == "game":
        if held_out is None:
            raise ValueError("the game needs held-out images, which its mixture is fitted on")
        found = game.best_member if cell.commits == "member" else game.fit
        mixture = tuple(found(held_out, cell.probabilities).tolist())
        return Scored(tidied(expected(right, mixture).min(axis=0)), mixture=mixture)
    e = expected(right, cell.probabilities)
    match cell.score:
        case "mean":
            return Scored(tidied(e.mean(axis=0)))
        case "worst_source":
            source = int(np.round(e.mean(axis=1), _DIGITS).argmin())
            return Scored(tidied(e[source]), source)
        case "any_of":
            return Scored(tidied(e.mean(axis=0)) ** cell.tries)
        case "pointwise":
            return Scored(tidied(e.min(axis=0)))
    raise ValueError(f"a score {cell.score!r} is not known")
