"""The game between a defense that commits to member probabilities and an adversary that knows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstbench.report.statistics import Right

_SLACK = 1e-10
"""Of the summed value, by which the choice among optimal mixtures may fall short: for rounding."""

Sets = frozenset[frozenset[int]]


def value(right: Right, mixture: NDArray[np.float64]) -> float:
    """Mean over images of the worst source's expected accuracy, in [0, 1], when members are drawn by `mixture`.

    right: bool (S, N, M), by source, image and member.
    """
    return float((right @ mixture).min(axis=0).mean())


def fit(right: Right, near: Sequence[float]) -> NDArray[np.float64]:
    """Member probabilities q, shape (M,), that maximise `value`: the defense's best commitment on these images.

    The linear programme is: maximise sum_i t_i, with t_i <= sum_m q_m c[s, i, m] for every source s of image i, and q
    in the simplex (von Neumann's minimax, one adversary for each image). Of one image's rows only the minimal ones
    bind, and images with the same minimal rows share a variable, weighted by their number; so it stays small.

    Often several q are optimal, e.g. when every image falls to some source whatever q is. Of them this takes one at
    the least L1 distance from `near` (the probabilities that the defense would otherwise use), by a second programme;
    where even these are several, it takes the vertex that HiGHS' dual simplex ends at, which is the same in every run
    and in any order of images and sources, but not promised across versions of scipy.

    right: bool (S, N, M). Raises RuntimeError if the solver gives up, which a bounded feasible programme rules out.
    """
    groups = Counter(_binding(right[:, image, :]) for image in range(right.shape[1]))
    members = right.shape[2]
    # Whom the adversary always fools, or never, tells nothing about q. In canonical order, whatever the images' was.
    decided: tuple[Sets, Sets] = (frozenset({frozenset()}), frozenset({frozenset(range(members))}))
    chosen = sorted((group for group in groups if group not in decided), key=_in_order)
    default = np.asarray(near, dtype=np.float64)
    if not chosen:
        return default
    weights = np.array([groups[group] for group in chosen], dtype=np.float64)
    best = _attained(chosen, weights, _best(chosen, weights, members))
    return _tidied(_nearest(chosen, weights, default, best))


def best_member(right: Right, near: Sequence[float]) -> NDArray[np.float64]:
    """The best commitment to a single member: probabilities of shape (M,), all but one zero.

    Of members that are worth the same, the one that the defense would otherwise draw most often, then the first.
    right: bool (S, N, M).
    """
    survives = right.all(axis=0).sum(axis=0)
    best = max(range(right.shape[2]), key=lambda member: (survives[member], near[member], -member))
    alone = np.zeros(right.shape[2], dtype=np.float64)
    alone[best] = 1.0
    return alone


def _binding(rows: NDArray[np.bool_]) -> Sets:
    """The minimal ones among one image's rows, each as the set of members that are right."""
    sets = {frozenset(np.flatnonzero(row).tolist()) for row in np.unique(rows, axis=0)}
    return frozenset(each for each in sets if not any(other < each for other in sets))


def _in_order(group: Sets) -> list[list[int]]:
    return sorted(sorted(each) for each in group)


def _best(groups: Sequence[Sets], weights: NDArray[np.float64], members: int) -> NDArray[np.float64]:
    """An optimal q."""
    cost = np.concatenate([np.zeros(members), -weights])
    return _tidied(_solve(cost, *_below_the_rows(groups, members, 0), members).x[:members])


def _attained(groups: Sequence[Sets], weights: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """What q is worth, summed over images; not the solver's own sum, which its tolerance may have raised."""
    worst = [min(float(q[sorted(each)].sum()) for each in group) for group in groups]
    return float(weights @ np.array(worst))


def _nearest(
    groups: Sequence[Sets], weights: NDArray[np.float64], near: NDArray[np.float64], best: float
) -> NDArray[np.float64]:
    """An optimal q at the least L1 distance from `near`: |q_m - near_m| <= d_m, minimise sum_m d_m."""
    from scipy import sparse

    members = len(near)
    rows, bounds = _below_the_rows(groups, members, members)
    eye, none = sparse.eye_array(members), sparse.csr_array((members, len(groups)))
    apart = sparse.vstack([sparse.hstack([eye, none, -eye]), sparse.hstack([-eye, none, -eye])])
    valued = sparse.csr_array(np.concatenate([np.zeros(members), -weights, np.zeros(members)])[None, :])
    cost = np.concatenate([np.zeros(members + len(groups)), np.ones(members)])
    limits = np.concatenate([bounds, near, -near, [_SLACK - best]])
    solved = _solve(cost, sparse.vstack([rows, apart, valued]), limits, members)
    q: NDArray[np.float64] = solved.x[:members]
    return q


def _below_the_rows(groups: Sequence[Sets], members: int, more: int) -> tuple[Any, NDArray[np.float64]]:
    """t_k - sum over the members of a row of q_m <= 0, for the variables (q, t, and `more` others)."""
    from scipy import sparse

    data: list[float] = []
    row: list[int] = []
    column: list[int] = []
    height = 0
    for k, group in enumerate(groups):
        for each in sorted(map(sorted, group)):
            data += [1.0, *([-1.0] * len(each))]
            row += [height] * (1 + len(each))
            column += [members + k, *each]
            height += 1
    shape = (height, members + len(groups) + more)
    return sparse.csr_array((data, (row, column)), shape=shape), np.zeros(height)


def _solve(cost: NDArray[np.float64], rows: Any, limits: NDArray[np.float64], members: int) -> Any:
    from scipy.optimize import linprog

    simplex = np.zeros((1, len(cost)))
    simplex[0, :members] = 1.0
    solved = linprog(cost, A_ub=rows, b_ub=limits, A_eq=simplex, b_eq=[1.0], bounds=(0.0, 1.0), method="highs-ds")
    if solved.status != 0:
        raise RuntimeError(f"the linear programme of the game was not solved ({solved.message})")
    return solved


def _tidied(q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without the solver's last digits: at least zero, summing to one."""
    q = np.clip(np.round(q, 9), 0.0, 1.0) + 0.0  # no -0.0, which would be printed
    normed: NDArray[np.float64] = q / q.sum()
    return normed
