"""Statements of claims, measured from the rows of suites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rstbench.plan import PlannedCell
from rstbench.report.claims.language import Pick, Quantity, Statement
from rstbench.report.claims.outcomes import Outcome
from rstbench.report.claims.readings import Planned, Rows, Scores
from rstbench.report.setting import data_of


@dataclass(frozen=True)
class Missing:
    """A statement that cannot be measured yet. picks: rows without a value; suites: those that would fill them."""

    statement: Statement
    picks: tuple[Pick, ...]
    suites: tuple[Planned, ...]
    reason: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A statement whose row the profile does not have, though the suites are there."""

    statement: Statement
    pick: Pick


def measure_statement(
    rows: Rows, statement: Statement, suites: Sequence[Planned], all_there: bool, reading: str
) -> Outcome | Missing | LeftOut:
    """The statement under a reading.

    suites: where its rows are looked for, in order; one suite that has all of them is preferred, because its rows share
    their test images. all_there: no suite that the claim names is missing or without a plan. Raises `StoreError` for
    damaged values.
    """
    picks = [term.pick.read(reading) for term in statement.quantity.terms]
    places = [[suite for suite in suites if rows.cell(suite, pick) is not None] for pick in picks]
    for pick, found in zip(picks, places, strict=True):
        if not found:
            return LeftOut(statement, pick) if all_there else Missing(statement, (pick,), ())
    whole = [suite for suite in suites if all(suite in found for found in places)]
    for suite in whole:
        outcome = _outcome(rows, statement, picks, [suite] * len(picks))
        if outcome is not None:
            return outcome
    filled = [[suite for suite in found if rows.scores(suite, pick)] for pick, found in zip(picks, places, strict=True)]
    chosen = [found[0] if found else None for found in filled]
    if not any(suite is None for suite in chosen):
        settled = [suite for suite in chosen if suite is not None]
        if not _same_setting(rows, picks, settled):
            names = ", ".join(sorted({suite.name for suite in settled}))
            return Missing(statement, (), (), f"{names} mean different images or networks by the same names")
        outcome = _outcome(rows, statement, picks, settled)
        if outcome is not None:
            return outcome
        return Missing(statement, tuple(picks), (settled[0],), "no seed has all of its rows")
    lacking = [(pick, found) for pick, found, suite in zip(picks, places, chosen, strict=True) if suite is None]
    if whole:
        return Missing(statement, tuple(pick for pick, _ in lacking), (whole[0],))
    fill = dict.fromkeys(found[0] for _, found in lacking)
    return Missing(statement, tuple(pick for pick, _ in lacking), tuple(fill))


def _same_setting(rows: Rows, picks: Sequence[Pick], suites: Sequence[Planned]) -> bool:
    """Whether rows of several suites mean the same by their names: the same images, the same architecture."""
    seen: dict[tuple[str, str], object] = {}
    for pick, suite in zip(picks, suites, strict=True):
        cell = rows.cell(suite, pick)
        if suite.plan is None or cell is None:
            continue
        data = data_of(cell, suite.plan.nodes)
        network = suite.plan.suite.run.networks[pick.network]
        if seen.setdefault(("network", pick.network), network) != network:
            return False
        # A count knows no data.
        if data and seen.setdefault(("data", pick.dataset), data) != data:
            return False
    return True


def _outcome(rows: Rows, statement: Statement, picks: Sequence[Pick], suites: Sequence[Planned]) -> Outcome | None:
    by_term = [rows.scores(suite, pick) for pick, suite in zip(picks, suites, strict=True)]
    seeds = tuple(seed for seed in by_term[0] if all(seed in scores for scores in by_term))
    if not seeds:
        return None
    cells = [rows.cell(suite, pick) for pick, suite in zip(picks, suites, strict=True)]
    quantity, by_term = _against_the_best(statement.quantity, by_term, seeds)
    values, groups = [], tuple[NDArray[np.float64], ...]()
    n = 0
    for seed in seeds:
        scores = [found[seed] for found in by_term]
        groups = _groups(quantity, scores)
        values.append(_value(quantity, scores, groups))
        n = max((len(group) for group in groups), default=0)
    widest = max((abs(t.factor) * s.widest for t, s in zip(quantity.terms, scores, strict=True)), default=0.0)
    return Outcome(
        statement=statement,
        by_seed=tuple(values),
        seeds=seeds,
        n=n,
        groups=groups if len(seeds) == 1 else (),
        width=widest,
        flags=tuple(
            sorted({flag for suite, pick in zip(suites, picks, strict=True) for flag in rows.flags(suite, pick)})
        ),
        substitutes=tuple(sorted({flag for cell in cells if cell is not None for flag in _substitutes(cell, seeds)})),
    )


def _against_the_best(
    quantity: Quantity, by_term: list[dict[int, Scores]], seeds: Sequence[int]
) -> tuple[Quantity, list[dict[int, Scores]]]:
    """A lead as the difference to one row: of the others, that of the largest mean over seeds."""
    if quantity.form != "lead":
        return quantity, by_term
    means = [sum(scores[seed].mean for seed in seeds) for scores in by_term[1:]]
    strongest = 1 + means.index(max(means))
    terms = (quantity.terms[0], quantity.terms[strongest])
    return Quantity("sum", terms), [by_term[0], by_term[strongest]]


def _substitutes(cell: PlannedCell, seeds: Sequence[int]) -> tuple[str, ...]:
    return (*cell.substitutes, *(["seeds:missing"] if set(cell.seeds) - set(seeds) else []))


def _value(quantity: Quantity, scores: Sequence[Scores], groups: Sequence[NDArray[np.float64]]) -> float:
    if quantity.form == "share":
        one, other = scores
        return 100 * one.mean / other.mean
    if groups:
        return float(sum(group.mean() for group in groups))
    return float(sum(term.factor * one.mean for term, one in zip(quantity.terms, scores, strict=True)))


def _groups(quantity: Quantity, scores: Sequence[Scores]) -> tuple[NDArray[np.float64], ...]:
    """Sums over terms that share their images; where one row's images are among all others', only those count."""
    pairs = zip(quantity.terms, scores, strict=True)
    counted = [(term.factor, one.index, one.scores) for term, one in pairs if one.index is not None]
    if quantity.form == "share" or len(counted) < len(scores):
        return ()
    shared = _shared([index for _, index, _ in counted])
    groups: dict[bytes, NDArray[np.float64]] = {}
    for factor, index, values in counted:
        if shared is not None:
            order = np.argsort(index)
            values = values[order[np.searchsorted(index, shared, sorter=order)]]
            index = shared
        key = index.tobytes()
        groups[key] = groups.get(key, np.zeros(len(values))) + factor * values
    return tuple(groups.values())


def _shared(indices: Sequence[NDArray[np.int64]]) -> NDArray[np.int64] | None:
    """The smallest set of images, if it is part of every other; else None."""
    smallest = min(indices, key=len)
    return np.sort(smallest) if all(bool(np.isin(smallest, index).all()) for index in indices) else None
