"""Entries lowered by a challenge that the store has taken in, and the files of their leaderboard written anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rstbench.errors import StoreError
from rstbench.report.leaderboard.behind import Behind
from rstbench.report.leaderboard.challenged import Challenged
from rstbench.report.leaderboard.challenges import Kept
from rstbench.report.leaderboard.entries import Composed, Said, compose, ranked
from rstbench.report.leaderboard.files import (
    json_beside,
    neutral,
    read_csv,
    read_json,
    read_samples,
    samples_beside,
    write_csv,
    write_json,
    write_samples,
)
from rstbench.report.leaderboard.measured import Asked, keys_of, measured
from rstbench.report.leaderboard.schema import METRICS, Board, Entry
from rstbench.report.leaderboard.verify import is_placed
from rstbench.store import Store

_FIGURES = tuple(f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high", "_n"))
_LOWERED = (*(f"worst{end}" for end in ("", "_low", "_high")), "challengers", "evidence")
"""Columns that a challenge changes; and `rank`."""


@dataclass
class Lowering:
    """The entry that is challenged, and those of its leaderboard that a challenge to it concerns too.

    They have no other networks than it, so that all of theirs have judged the images: the same ones at another epsilon
    (an image within the smaller is within the larger), or one member alone. Made before the challenge is kept: raises
    `StoreError` where the files do not say what the store says, since they would be written anew from it.
    """

    against: Challenged
    store: Store
    board: Board = field(init=False)

    def __post_init__(self) -> None:
        path = self.against.path
        self.board = read_json(json_beside(path))
        rows = {row["entry"]: row for row in read_csv(path)}
        if rows != {e.row["entry"]: {k: neutral(text) for k, text in e.row.items()} for e in self.board.entries}:
            raise StoreError(f"{path} and {json_beside(path).name} differ; {self._verify}")
        for row in rows.values():
            if not is_placed(row):
                raise StoreError(
                    f"{path}: entry {row['entry']} has epsilon {row['epsilon']!r} and worst {row['worst']!r}, which "
                    f"are no numbers; {self._verify}"
                )
        for name, (entry, _) in self._composed().items():
            for column in (*_FIGURES, "evidence"):
                if entry.row[column] != rows[name][column]:
                    raise StoreError(
                        f"{path}: entry {name} has {column} {rows[name][column]!r}, and the store {self.store.root} "
                        f"says {entry.row[column]!r}; {self._verify}"
                    )

    @property
    def _verify(self) -> str:
        return f"`rstbench leaderboard verify {self.against.path}` tells more, `leaderboard build` writes it anew"

    def _composed(self) -> Mapping[str, Composed]:
        """Entries as a build would have them now, but for what only suites say."""
        behind, kept = Behind(self.store), Kept(self.store)
        asked = {(each.key, each.checkpoint) for each in self.against.entry.networks}
        found = {}
        for entry in self.board.entries:
            if not {(each.key, each.checkpoint) for each in entry.networks} <= asked:
                continue
            rows = []
            for each in entry.rows:
                behind.read(keys_of(each.cell))
                rows.append(measured(Asked(each.cell, each.variant, ()), behind, self.store))
            norm, epsilon = entry.row["norm"], entry.row["epsilon"]
            made = compose(rows, norm, epsilon, Said("", "", ()), behind, kept, lambda fields: (0, 0))
            if made is None or made[0].row["entry"] != entry.row["entry"]:
                raise StoreError(f"{self.against.path}: entry {entry.row['entry']} is not of its rows; {self._verify}")
            found[entry.row["entry"]] = made
        return found

    def write(self, out: Path | None) -> list[Entry]:
        """Write the leaderboard with the challenge, in place or into the folder `out`; returns the entries lowered.

        Raises `StoreError` if the files cannot be written.
        """
        path = self.against.path
        samples = read_samples(samples_beside(path))
        lowered, entries = [], []
        composed = self._composed()
        for entry in self.board.entries:
            now = composed.get(entry.row["entry"])
            if now is not None and now[0].row["evidence"] != entry.row["evidence"]:
                row = {**entry.row, **{name: now[0].row[name] for name in _LOWERED}}
                entry = entry.model_copy(update={"row": row, "challenges": now[0].challenges})
                samples |= {(row["entry"], metric, seed): each for (metric, seed), each in now[1].items()}
                lowered.append(entry.row["entry"])
            entries.append(entry)
        board = self.board.model_copy(update={"entries": tuple(ranked(entries))})
        folder = out or path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_samples(samples_beside(folder / path.name), samples)
            write_json(json_beside(folder / path.name), board)
            write_csv(folder / path.name, [each.row for each in board.entries])
        except OSError as error:
            raise StoreError(f"the leaderboard cannot be written to {folder} ({error.strerror or error})") from error
        return [each for each in board.entries if each.row["entry"] in lowered]
