"""From what was run on a store to leaderboards: rows of all suites, by defense; entries; files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rstbench.errors import SpecError, StoreError
from rstbench.plan import PlannedCell
from rstbench.report.leaderboard.behind import Behind
from rstbench.report.leaderboard.challenges import Kept
from rstbench.report.leaderboard.entries import Said, compose, concerned, epsilon_text, ranked
from rstbench.report.leaderboard.files import (
    Samples,
    board_name,
    json_beside,
    samples_beside,
    write_csv,
    write_json,
    write_samples,
)
from rstbench.report.leaderboard.harvest import Harvest, sources_of
from rstbench.report.leaderboard.measured import Asked, Defense, Measured, keys_of, measured
from rstbench.report.leaderboard.provenance import Count
from rstbench.report.leaderboard.schema import Board, CellForm, Entry
from rstbench.report.leaderboard.suites import Ran
from rstbench.store import Store


@dataclass
class _Group:
    """Rows of one defense, and who asked for them."""

    names: dict[str, None] = field(default_factory=dict)
    profiles: dict[str, None] = field(default_factory=dict)
    suites: dict[str, None] = field(default_factory=dict)
    rows: dict[CellForm, Measured] = field(default_factory=dict)


@dataclass(frozen=True)
class Built:
    """A leaderboard and the scores behind its entries."""

    board: Board
    samples: Samples

    @property
    def name(self) -> str:
        """Stem of its files."""
        return board_name(self.board.dataset, self.board.norm)


def form_of(cell: PlannedCell) -> CellForm:
    """What recomputes a cell without its suite. Members are called by number where they are not by ratio."""
    return CellForm(
        score=cell.score,
        tries=cell.tries,
        commits=cell.commits,
        probabilities=cell.probabilities,
        seeds=cell.seeds,
        sources=cell.sources,
        members=cell.members,
        predictions=cell.predictions,
        held_out=cell.held_out,
    )


def boards(ran: Sequence[Ran], store: Store, count: Count) -> list[Built]:
    """The leaderboards of all data sets and norms that suites were run on, in the order of their names.

    Suites choose defenses, norms and epsilons; attacks on these defenses are taken from wherever the store has them.
    Cells that are not in the store to their end are left out. Raises `StoreError` if stored values are damaged, and
    `SpecError` if one name of a data set stands for different images.
    """
    behind = Behind(store)
    groups = _groups(ran, behind, store)
    kept, harvest = Kept(store), Harvest(store, behind)
    found: dict[tuple[str, str], list[Entry]] = {}
    samples: dict[tuple[str, str], Samples] = {}
    for group in groups:
        rows = list(group.rows.values())
        threats = _threats(rows)
        rows += _harvested(rows, harvest, behind, store)
        said = Said(next(iter(group.names)), " ".join(group.profiles), tuple(group.suites))
        for norm, epsilon in threats:
            text = epsilon_text(norm, epsilon)
            made = compose(concerned(rows, norm, epsilon), norm, text, said, behind, kept, count)
            if made is None:
                continue
            entry, scores = made
            place = entry.row["dataset"], norm
            found.setdefault(place, []).append(entry)
            own = samples.setdefault(place, {})
            own |= {(entry.row["entry"], metric, seed): each for (metric, seed), each in scores.items()}
    built: list[Built] = []
    for (dataset, norm), entries in sorted(found.items()):
        _require_one_data(dataset, entries)
        name = board_name(dataset, norm)
        if any(each.name == name for each in built):
            raise SpecError(f"two data sets would both be called {name} in a file's name, {dataset!r} is one of them")
        board = Board(dataset=dataset, norm="l2" if norm == "l2" else "linf", entries=tuple(ranked(entries)))
        built.append(Built(board, samples[dataset, norm]))
    return built


def _harvested(rows: Sequence[Measured], harvest: Harvest, behind: Behind, store: Store) -> list[Measured]:
    """Attacks on the defense that other suites have made."""
    shown = set(sources_of([row.sources for row in rows]))
    forms = harvest.of(rows[0].defense, rows[0].asked.cell.members, shown)
    return [measured(Asked(form, "", ()), behind, store) for form in forms]


def _groups(ran: Sequence[Ran], behind: Behind, store: Store) -> list[_Group]:
    """Rows by defense, in the order in which suites name them; a row that two suites have stands once."""
    groups: dict[Defense, _Group] = {}
    known: dict[CellForm, Measured] = {}
    for each in ran:
        for cell in each.plan.cells:
            if not cell.predictions:
                continue
            form = form_of(cell)
            keys = keys_of(form)
            if not all(store.has(key) for key in keys):
                continue
            if form not in known:
                behind.read(keys)
                known[form] = measured(Asked(form, cell.columns["variant"], cell.substitutes), behind, store)
            row = known[form]
            group = groups.setdefault(row.defense, _Group())
            group.names.setdefault(cell.columns["defense"])
            group.profiles.setdefault(str(each.plan.suite.profile))
            group.suites.setdefault(each.command)
            group.rows.setdefault(form, row)
    return list(groups.values())


def _threats(rows: Iterable[Measured]) -> list[tuple[str, float]]:
    """Norms and epsilons that images keep, each once."""
    found = {(budget[0], round(budget[1], 9)): budget for row in rows if (budget := row.budget) is not None}
    return [found[key] for key in sorted(found)]


def _require_one_data(dataset: str, entries: Sequence[Entry]) -> None:
    prints = {each.row["data_fingerprint"]: each.row["suite"] for each in entries}
    if len(prints) > 1:
        listed = " and ".join(f"{fingerprint[:12]} ({suite})" for fingerprint, suite in prints.items())
        raise SpecError(
            f"data set {dataset} stands for different images: {listed}; their numbers are not shown together. "
            "Build from stores of one of them at a time"
        )


def write_boards(built: Sequence[Built], out: Path) -> list[Path]:
    """Write the three files of each; returns the CSVs. Raises `StoreError` if they cannot be written."""
    paths = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for each in built:
            path = out / f"{each.name}.csv"
            write_samples(samples_beside(path), each.samples)
            write_json(json_beside(path), each.board)
            write_csv(path, [entry.row for entry in each.board.entries])
            paths.append(path)
    except OSError as error:
        raise StoreError(
            f"leaderboards cannot be written to {out} ({error.strerror or error}); choose another folder with --out"
        ) from error
    return paths
