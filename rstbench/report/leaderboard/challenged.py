"""The entry that a challenge is against: whom to ask, on which data, within what, and what stands so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rstbench.errors import SpecError, StoreError
from rstbench.report.leaderboard.challenges import Judge, data_of, judges_of
from rstbench.report.leaderboard.files import (
    Scores,
    evidence,
    json_beside,
    of_entry,
    read_csv,
    read_json,
    read_samples,
    samples_beside,
)
from rstbench.report.leaderboard.measured import interval
from rstbench.report.leaderboard.schema import Entry, Row
from rstbench.report.statistics import Interval
from rstbench.store import Store

WORST = "worst"
_LISTED = 8


@dataclass(frozen=True)
class Challenged:
    """An entry as a challenge sees it.

    judges: by seed and member; data: key of the data node; probabilities: of the members. standing: the worst case so
    far, of each seed.
    """

    path: Path
    row: Row
    entry: Entry
    seeds: tuple[int, ...]
    judges: tuple[tuple[Judge, ...], ...]
    data: str
    probabilities: tuple[float, ...]
    standing: tuple[Scores, ...]

    @property
    def norm(self) -> str:
        """linf or l2."""
        return self.row["norm"]

    @property
    def epsilon(self) -> str:
        """As suites write it."""
        return self.row["epsilon"]

    def figure(self, scores: Sequence[NDArray[np.float64]]) -> tuple[float, Interval]:
        """Mean in percent of scores (N,) of each seed, and its interval, as all figures have them."""
        return interval(scores, len(self.probabilities) == 1)


def challenged(where: str, store: Store) -> Challenged:
    """The entry of `CSV#ENTRY`, with what the store knows of it.

    Raises `SpecError` where there is no such entry or it has no worst case; `StoreError` for files that are damaged or
    do not fit each other, and where the store lacks what the entry was computed from.
    """
    path, name = _parsed(where)
    rows = read_csv(path)
    row = next((each for each in rows if each["entry"] == name), None)
    entry = read_json(json_beside(path)).entry(name)
    if row is None or entry is None:
        raise SpecError(f"{path}: no entry {name!r}{_known(name, rows)}")
    scores = of_entry(read_samples(samples_beside(path)), name)
    if evidence(scores) != row["evidence"]:
        raise StoreError(
            f"{samples_beside(path)}: the scores of entry {name} are not those that its row was computed from; "
            f"`rstbench leaderboard verify {path}` tells more"
        )
    seeds = tuple(sorted(seed for metric, seed in scores if metric == WORST))
    behind = [each for each in entry.rows if WORST in each.metrics and set(seeds) <= set(each.cell.seeds)]
    if not seeds or not behind:
        raise SpecError(f"{path}: entry {name} has no worst case, so there is nothing to lower")
    cell = behind[0].cell
    predictions = [cell.predictions[cell.seeds.index(seed)][0] for seed in seeds]
    judges = tuple(judges_of(store, members) for members in predictions)
    data = {data_of(store, key) for members in predictions for key in members}
    if len(data) != 1 or any(len(members) != len(cell.probabilities) for members in judges):
        raise StoreError(f"{json_beside(path)}: entry {name}: predictions and members do not fit each other")
    return Challenged(
        path, row, entry, seeds, judges, data.pop(), cell.probabilities, tuple(scores[WORST, seed] for seed in seeds)
    )


def _parsed(where: str) -> tuple[Path, str]:
    path, hash_, name = where.rpartition("#")
    if not hash_ or not path or not name:
        raise SpecError(f"{where!r}: write CSV#ENTRY, a leaderboard's file and the name in its column `entry`")
    return Path(path), name


def _known(name: str, rows: Sequence[Row]) -> str:
    names = [each["entry"] for each in rows]
    near = get_close_matches(name, names, 1)
    if near:
        return f"; did you mean {near[0]!r}?"
    listed = [f"{each['entry']} ({each['name']}, {each['epsilon']})" for each in rows[:_LISTED]]
    return f"; it has {', '.join(listed)}{' ...' if len(rows) > _LISTED else ''}" if rows else "; it has none"
