"""Whether a leaderboard says what a store says: everything is computed anew from the keys in its JSON, and compared.

Taken on trust is only what no store knows: what suites call a defense and a row (`name`, `variant`, `members` and
`sources` of a cell), which suite and profile asked for it, and what that profile substitutes.

Beside figures that differ, found are: keys that are not the hash of what their record says, predictions of networks
that are not the entry's, images of other data or beyond the norm and epsilon, per-image files that are damaged, and
attacks in the store that the entry passes over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rstbench.errors import StoreError
from rstbench.report.leaderboard.behind import Behind
from rstbench.report.leaderboard.challenges import Kept
from rstbench.report.leaderboard.entries import Composed, Said, compose, epsilon_of, epsilon_text, ranked
from rstbench.report.leaderboard.files import (
    Samples,
    Scores,
    json_beside,
    neutral,
    of_entry,
    read_csv,
    read_json,
    read_samples,
    samples_beside,
)
from rstbench.report.leaderboard.harvest import Harvest
from rstbench.report.leaderboard.measured import Asked, Measured, defense_behind, keeps, keys_of, measured
from rstbench.report.leaderboard.provenance import Count
from rstbench.report.leaderboard.schema import COLUMNS, Board, Entry, Row
from rstbench.report.leaderboard.words import attack_words
from rstbench.store import Store

TRUSTED = ("name", "profile", "suite")
"""Columns that only a suite can fill."""
_SUBSTITUTE = "substitute:"


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be. column: of the CSV, or the place in the JSON; entry may be empty."""

    file: str
    entry: str
    column: str
    stands: str
    would_be: str

    def __str__(self) -> str:
        where = ", ".join(word for word in (self.file, self.entry and f"entry {self.entry}", self.column) if word)
        return f"{where}: stands {self.stands or 'nothing'}, would be {self.would_be or 'nothing'}"


@dataclass(frozen=True)
class Verified:
    """What was looked at. entries: in the JSON; values: records of the store that were read for them."""

    findings: tuple[Finding, ...]
    board: Board
    entries: int
    figures: int
    values: int


def verify(path: Path, store: Store, count: Count, say: Callable[[str], None] = lambda text: None) -> Verified:
    """Compute the leaderboard at `path` (its CSV) anew from the store, and compare.

    say: called with the name of each entry before it is looked at. Raises `StoreError` for files that are not of a
    leaderboard, and for a store that has nothing of it.
    """
    rows, board, samples = read_csv(path), read_json(json_beside(path)), read_samples(samples_beside(path))
    behind, kept = Behind(store), Kept(store)
    harvest = Harvest(store, behind)
    findings = list(_files_fit(path, rows, board, samples))
    if board.entries and not any(_has_any(store, entry) for entry in board.entries):
        raise StoreError(f"none of the values behind {path} is in {store.root}; name the stores that it was built from")
    composed: dict[str, Composed] = {}
    for entry in board.entries:
        say(f"{entry.row['entry']} {entry.row['name']}")
        try:
            made = _again(entry, behind, kept, store, count)
            composed[entry.row["entry"]] = made
            findings += _damaged(entry, behind, path)
            findings += _passed_over(entry, harvest, behind, path)
        except StoreError as error:
            findings.append(Finding(json_beside(path).name, entry.row["entry"], "rows", "a row", f"refused: {error}"))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            # Whatever records say that no builder writes: the store may be as foreign as the leaderboard.
            text = f"refused: the store's records are not as a builder writes them ({error!r})"
            findings.append(Finding(json_beside(path).name, entry.row["entry"], "rows", "a row", text))
    # An entry that was refused keeps its place among the others, so that it alone is named.
    refused = [each for each in board.entries if each.row["entry"] not in composed and is_placed(each.row)]
    standing = [*(each for each, _ in composed.values()), *refused]
    ranks = {each.row["entry"]: each.row["rank"] for each in ranked(standing)}
    by_name = {row["entry"]: row for row in rows}
    for entry in board.entries:
        name = entry.row["entry"]
        if name not in composed:
            continue
        anew, scores = composed[name]
        anew = anew.model_copy(update={"row": {**anew.row, "rank": ranks.get(anew.row["entry"], "")}})
        findings += _columns(path.name, name, by_name.get(name), {n: neutral(text) for n, text in anew.row.items()})
        findings += _columns(json_beside(path).name, name, entry.row, anew.row)
        findings += _fields(json_beside(path).name, name, entry, anew)
        findings += _scores(samples_beside(path).name, name, of_entry(samples, name), scores)
    figures = sum(bool(row[column]) for row in rows for column in COLUMNS if column not in TRUSTED)
    return Verified(tuple(findings), board, len(board.entries), figures, len(behind.records))


def is_placed(row: Row) -> bool:
    """Whether epsilon and worst case are numbers, so that it has a place among entries."""
    try:
        return epsilon_of(row["norm"], row["epsilon"]) + float(row["worst"]) >= 0
    except (ValueError, ZeroDivisionError):
        return False


def _has_any(store: Store, entry: Entry) -> bool:
    return any(store.has(key) for row in entry.rows for key in keys_of(row.cell))


def _files_fit(path: Path, rows: Sequence[Row], board: Board, samples: Samples) -> Iterator[Finding]:
    """Entries that only one of the files has, or of another data set or norm than the file."""
    listed, known = {row["entry"] for row in rows}, Counter(each.row["entry"] for each in board.entries)
    for name, count in known.items():
        if name not in listed or count > 1:
            yield Finding(path.name, name, "", "no row" if name not in listed else "two entries", "one row")
    for name in sorted(listed - set(known)):
        yield Finding(json_beside(path).name, name, "", "no entry", "what is behind the row")
    for name in sorted({name for name, _, _ in samples} - set(known)):
        yield Finding(samples_beside(path).name, name, "", "scores", "")
    for each in board.entries:
        for column, whole in (("dataset", board.dataset), ("norm", board.norm)):
            if each.row[column] != whole:
                yield Finding(json_beside(path).name, each.row["entry"], column, whole, each.row[column])


def _again(entry: Entry, behind: Behind, kept: Kept, store: Store, count: Count) -> Composed:
    """The entry as the store has it. Raises `StoreError` where it cannot be computed from its keys."""
    row = entry.row
    try:
        epsilon = epsilon_text(row["norm"], epsilon_of(row["norm"], row["epsilon"]))
    except (ValueError, ZeroDivisionError):
        raise StoreError(f"epsilon {row['epsilon']!r} is no distance") from None
    found: list[Measured] = []
    for each in entry.rows:
        behind.read(keys_of(each.cell))
        substitutes = tuple(flag for flag in each.flags.split() if flag.startswith(_SUBSTITUTE))
        found.append(measured(Asked(each.cell, each.variant, substitutes), behind, store))
    if not found:
        raise StoreError("the entry has no rows")
    for each, one in zip(entry.rows, found, strict=True):
        if one.defense != found[0].defense:
            raise StoreError(f"the row {each.label!r} is of other networks, another draw or other data than the first")
        if not (one.touches(row["norm"], epsilon_of(row["norm"], epsilon)) or one.budget is None):
            raise StoreError(f"the images of the row {each.label!r} are not within {row['norm']} {epsilon}")
    said = Said("", row["profile"], (row["suite"],))
    made = compose(found, row["norm"], epsilon, said, behind, kept, count)
    if made is None:
        raise StoreError(f"no attack of the entry is within {row['norm']} {epsilon}")
    anew, scores = made
    return anew.model_copy(update={"row": {**anew.row, **{name: row[name] for name in TRUSTED}}}), scores


def _damaged(entry: Entry, behind: Behind, path: Path) -> Iterator[Finding]:
    """Keys behind the entry that are not the hash of what their records say."""
    for key in behind.ancestors(key for row in entry.rows for key in keys_of(row.cell)):
        if key in behind.faults:
            yield Finding(
                json_beside(path).name, entry.row["entry"], "rows", key[:12], f"refused: {behind.faults[key]}"
            )


def _passed_over(entry: Entry, harvest: Harvest, behind: Behind, path: Path) -> Iterator[Finding]:
    """Attacks on the entry, within its norm and epsilon, that the store has and its rows do not."""
    norm, epsilon = entry.row["norm"], epsilon_of(entry.row["norm"], entry.row["epsilon"])
    sources = [[[behind.source(row) for row in seed] for seed in each.cell.predictions] for each in entry.rows]
    shown = {source.counted for row in sources for seed in row for source in seed}
    cell = entry.rows[0].cell
    for form in harvest.of(defense_behind(cell, behind), cell.members, shown):
        made = [behind.source(row) for row in form.predictions[0]]
        if all(keeps(source, norm, epsilon) for source in made):
            yield Finding(json_beside(path).name, entry.row["entry"], "rows", "", attack_words(made[0].attack))


def _columns(file: str, entry: str, stands: Row | None, anew: Row) -> Iterator[Finding]:
    for column in COLUMNS if stands is not None else ():
        if stands is not None and stands[column] != anew[column]:
            yield Finding(file, entry, column, stands[column], anew[column])


def _fields(file: str, name: str, stands: Entry, anew: Entry) -> Iterator[Finding]:
    """Differences in what is behind the row: networks, rows, matrices, challenges, record."""
    ours, theirs = (each.model_dump(mode="json", exclude={"row"}) for each in (anew, stands))
    for place, said, found in _differences("", theirs, ours):
        yield Finding(file, name, place, said, found)


def _differences(place: str, stands: Any, anew: Any) -> Iterator[tuple[str, str, str]]:
    if isinstance(stands, Mapping) and isinstance(anew, Mapping):
        for key in dict.fromkeys([*stands, *anew]):
            yield from _differences(f"{place}.{key}" if place else str(key), stands.get(key), anew.get(key))
    elif isinstance(stands, list) and isinstance(anew, list) and len(stands) == len(anew):
        for i, (one, other) in enumerate(zip(stands, anew, strict=True)):
            yield from _differences(f"{place}[{i}]", one, other)
    elif stands != anew:
        yield place, _short(stands), _short(anew)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _scores(
    file: str, entry: str, stands: Mapping[tuple[str, int], Scores], anew: Mapping[tuple[str, int], Scores]
) -> Iterator[Finding]:
    for metric, seed in sorted({*stands, *anew}):
        one, other = stands.get((metric, seed)), anew.get((metric, seed))
        column = f"{metric}, seed {seed}"
        if one is None or other is None:
            yield Finding(file, entry, column, "scores" if one else "", "scores" if other else "")
            continue
        one, other = _sorted(one), _sorted(other)
        if not (np.array_equal(one.index, other.index) and np.array_equal(one.label, other.label)):
            yield Finding(file, entry, column, "scores of other images or labels", "those of the store")
            continue
        differ = np.flatnonzero(np.abs(one.score - other.score) > 1e-9)
        if len(differ):
            at = differ[0]
            more = f" and {len(differ) - 1} more" if len(differ) > 1 else ""
            image = f"{one.score[at]:.6g} for image {one.index[at]}{more}"
            yield Finding(file, entry, column, image, f"{other.score[at]:.6g}")


def _sorted(scores: Scores) -> Scores:
    order = np.argsort(scores.index, kind="stable")
    return replace(scores, index=scores.index[order], label=scores.label[order], score=scores.score[order])
