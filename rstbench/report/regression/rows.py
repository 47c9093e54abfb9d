"""What is compared: rows of results, from wherever they come, with their per-image scores where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SeedScores:
    """Of one seed: test indices, int64 (N,), each once; expected correctness (N,) in [0, 1]; labels, if known."""

    index: NDArray[np.int64]
    score: Floats
    label: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Row:
    """An accuracy, in percent.

    key: what a row of the other side must have to be this row's counterpart; alias: what finds it first, empty if there
    is no such thing. label: the same in words, for people.
    low, high: of its 95 % interval; n: test images; None where not stated. scores: by seed; empty without per-image
    results. networks: by seed, what tells member networks apart, in order (a prefix of a key will do); empty if not
    known. evidence: digest of what the value was computed from, empty if not known. setting: what should be alike on
    both sides if the numbers are to be about the same thing: differences are said.
    """

    key: tuple[str, ...]
    label: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    seeds: tuple[int, ...] = ()
    scores: Mapping[int, SeedScores] = field(default_factory=dict)
    networks: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    evidence: str = ""
    setting: Mapping[str, str] = field(default_factory=dict)
    alias: tuple[str, ...] = ()


@dataclass(frozen=True)
class Side:
    """The results before, or after. name: as the user gave it.

    rows: of one key each. notes: what the reader should know of the side as a whole.
    """

    name: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
