"""Seeded, stratified choices of samples. Raw Philox words only: numpy's samplers may change, its raw stream may not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstbench.errors import DataError, SpecError

# Second half of the Philox key: two purposes with one seed must not draw the same words.
_SPLIT, _SUBSET = 1, 2


def split(labels: NDArray[Any], fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut a training set: (training indices, validation indices), both sorted, disjoint, together everything.

    `labels` (N,) integers; `round(fraction * N)` samples, at least one, go to validation, shared out over the classes
    in proportion. The last sample of a class always stays in training. `fraction` in (0, 1), `seed` in 0..2**63-1.
    Raises `DataError` if every class has a single sample, so that nothing can be spared.
    """
    if not 0 < fraction < 1:
        raise SpecError(f"a share of {fraction:g} cannot be cut off; it must lie between 0 and 1")
    wanted = max(1, round(fraction * len(labels)))
    chosen = _choose(labels, wanted, seed, _SPLIT, keep=1)
    if not chosen.any():
        raise DataError(f"{len(labels)} images of as many classes cannot be cut; a class needs at least two images")
    return np.flatnonzero(~chosen).astype(np.int64), np.flatnonzero(chosen).astype(np.int64)


def stratified_subset(labels: NDArray[Any], n: int, seed: int) -> NDArray[np.int64]:
    """Sorted indices of exactly `n` samples (all of them if there are no more than `n`).

    Each class gets its proportional share of `n`, rounded down or up; who is rounded up is decided by the remainder,
    ties by the seed.
    """
    if n < 1:
        raise SpecError(f"{n} samples cannot be chosen; at least one is needed")
    if n >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    return np.flatnonzero(_choose(labels, n, seed, _SUBSET, keep=0)).astype(np.int64)


def _choose(labels: NDArray[Any], wanted: int, seed: int, purpose: int, keep: int) -> NDArray[np.bool_]:
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    random = np.random.Philox(key=seed | purpose << 64)
    ties = random.random_raw(len(counts))
    words = random.random_raw(len(labels))
    quotas = _quotas(counts, counts - keep, wanted, ties)
    order = np.lexsort((words, classes))
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(rank < quotas[classes], dtype=np.bool_)


def _quotas(
    counts: NDArray[np.int64], limits: NDArray[np.int64], wanted: int, ties: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Largest-remainder shares of `wanted`, none above its limit; fewer in total only if the limits force it."""
    total = int(counts.sum())
    shares = counts * wanted  # whole numbers: a class's exact share is shares / total
    quotas = np.minimum(shares // total, limits)
    order = np.lexsort((ties, -(shares % total)))
    left = min(wanted, int(limits.sum())) - int(quotas.sum())
    while left > 0:  # one round unless a class was full
        open_classes = order[quotas[order] < limits[order]][:left]
        quotas[open_classes] += 1
        left -= len(open_classes)
    return quotas
