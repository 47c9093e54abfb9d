"""The leaderboards of a folder, by threat model: what the pages show. All of it is checked before a page is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rstbench.errors import StoreError
from rstbench.report.leaderboard.files import json_beside, neutral, read_csv, read_json
from rstbench.report.leaderboard.schema import COLUMNS, METRICS, Board, Entry, Row

_PERCENT = re.compile(r"[0-9]{1,3}(\.[0-9]{1,4})?")
_COUNT = re.compile(r"[0-9]{1,18}")
_COUNTS = ("rank", "members", "parameters", "parameters_kept", "ticket_bytes", "worst_tries", "n")
_WORDS = {"linf": "L∞", "l2": "L2"}


@dataclass(frozen=True)
class ThreatModel:
    """The entries of one data set, norm and epsilon, those with a rank first. slug: name of its page, without .html."""

    dataset: str
    norm: str
    epsilon: str
    slug: str
    file: str
    entries: tuple[Entry, ...]

    @property
    def distance(self) -> str:
        """The norm and epsilon for people: "L∞ 8/255"."""
        return f"{_WORDS[self.norm]} {self.epsilon}"

    @property
    def title(self) -> str:
        """The data set and the distance."""
        return f"{self.dataset}, {self.distance}"


@dataclass(frozen=True)
class Folder:
    """What was read: threat models in the order of data set, norm and epsilon, and the CSV files behind them."""

    threats: tuple[ThreatModel, ...]
    files: tuple[Path, ...]

    @property
    def first(self) -> ThreatModel:
        """The one a reader meets first: most entries."""
        return max(self.threats, key=lambda threat: len(threat.entries))


def read_boards(folder: Path) -> Folder:
    """The leaderboards in `folder`: each CSV that has a JSON beside it.

    Raises `StoreError` if there is none, if a file is not of this version, if CSV and JSON say different things, if a
    figure is no number, or if an entry is there twice.
    """
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such folder; name the one that `rstbench leaderboard build --out` wrote")
    files = tuple(path for path in sorted(folder.glob("*.csv")) if json_beside(path).is_file())
    if not files:
        raise StoreError(
            f"{folder}: no leaderboard (NAME.csv with NAME.json); `rstbench leaderboard build` writes them"
        )
    threats = [threat for path in files for threat in _threats(path)]
    seen: dict[str, str] = {}
    for threat in threats:
        for entry in threat.entries:
            name = entry.row["entry"]
            if name in seen:
                raise StoreError(f"{folder}: entry {name} is in {seen[name]} and in {threat.file}")
            seen[name] = threat.file
    if not threats:
        raise StoreError(f"{folder}: its leaderboards have no entries")
    ordered = sorted(threats, key=lambda each: (each.dataset, each.norm != "linf", _size(each.epsilon)))
    return Folder(tuple(_named(ordered)), files)


def _threats(path: Path) -> list[ThreatModel]:
    board = read_json(json_beside(path))
    _compare(path, read_csv(path), board)
    found: dict[str, list[Entry]] = {}
    for entry in board.entries:
        _check(path, board, entry.row)
        found.setdefault(entry.row["epsilon"], []).append(entry)
    return [
        ThreatModel(
            board.dataset, board.norm, epsilon, f"{_plain(path.stem)}_{_plain(epsilon)}", path.name, _by_rank(entries)
        )
        for epsilon, entries in found.items()
    ]


def _compare(path: Path, rows: Sequence[Row], board: Board) -> None:
    """The pages show what the JSON says; a reader of the CSV must not read anything else there."""
    said = {row["entry"]: row for row in rows}
    others = {entry.row["entry"] for entry in board.entries}
    if len(others) < len(board.entries) or set(said) != others:
        raise StoreError(f"{path}: CSV and JSON have different entries; build both anew")
    for entry in board.entries:
        row = said[entry.row["entry"]]
        for column in COLUMNS:
            if row[column] != neutral(entry.row[column]):
                raise StoreError(
                    f"{path}: entry {row['entry']}, {column}: the CSV says {row[column][:80]!r}, the JSON "
                    f"{entry.row[column][:80]!r}; `rstbench leaderboard verify` says which one the store has"
                )


def _check(path: Path, board: Board, row: Row) -> None:
    where = f"{json_beside(path)}: entry {row['entry']}"
    if (row["dataset"], row["norm"]) != (board.dataset, board.norm):
        raise StoreError(f"{where}: of another data set or norm than the file")
    if not row["epsilon"] or not row["worst"] or not row["name"]:
        raise StoreError(f"{where}: no epsilon, no name, or no worst case")
    for metric in METRICS:
        figures = [row[metric], row[f"{metric}_low"], row[f"{metric}_high"]]
        if any(figures) and not all(_PERCENT.fullmatch(each) and float(each) <= 100 for each in figures):
            raise StoreError(f"{where}, {metric}: {' '.join(figures)[:80]!r} is not a percentage with its interval")
        if row[metric] and not row[f"{metric}_n"]:
            raise StoreError(f"{where}, {metric}: the number of images is missing")
    for column in (*_COUNTS, *(f"{metric}_n" for metric in METRICS)):
        if row[column] and not _COUNT.fullmatch(row[column]):
            raise StoreError(f"{where}, {column}: {row[column][:80]!r} is not a count")


def _by_rank(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=_rank))


def _rank(entry: Entry) -> tuple[bool, int, float]:
    rank = entry.row["rank"]
    return not rank, int(rank or 0), -float(entry.row["worst"])


def _size(epsilon: str) -> tuple[float, str]:
    above, _, below = epsilon.partition("/")
    try:
        return float(above) / float(below or 1), epsilon
    except (ValueError, ZeroDivisionError):
        return float("inf"), epsilon


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.") or "none"


def _named(threats: Iterable[ThreatModel]) -> list[ThreatModel]:
    """Two epsilons may have the same plain form; each page needs a name of its own, whatever letters' case is worth."""
    taken = {"index"}
    named = []
    for threat in threats:
        slug, number = threat.slug, 2
        while slug.lower() in taken:
            slug, number = f"{threat.slug}-{number}", number + 1
        taken.add(slug.lower())
        named.append(ThreatModel(threat.dataset, threat.norm, threat.epsilon, slug, threat.file, threat.entries))
    return named
