"""Has robust accuracy dropped? What the command `check` does."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from rich.console import Console

from rstbench.errors import SpecError, StoreError
from rstbench.report.files import write_text
from rstbench.report.leaderboard.build import boards
from rstbench.report.leaderboard.suites import Ran, file_name, remembered
from rstbench.report.regression.boards import networks_of, of_board, read_board, threat_of
from rstbench.report.regression.cells import header
from rstbench.report.regression.forms import as_annotations, as_json, as_junit, as_markdown, power_as_json
from rstbench.report.regression.options import Options
from rstbench.report.regression.planning import Needed, given, of_pairs, of_row, shared_among
from rstbench.report.regression.plans import read_plans
from rstbench.report.regression.rows import Row, Side
from rstbench.report.regression.tables import read_table, unique
from rstbench.report.regression.text import show, show_power
from rstbench.report.regression.verdicts import Check, check
from rstbench.session import Request, plans_of
from rstbench.spec.made import CURVES
from rstbench.store import Store

Format = Literal["text", "json", "junit", "github"]
SUMMARY_ENV = "GITHUB_STEP_SUMMARY"
_WIDTH = 160


@dataclass(frozen=True)
class Chosen:
    """What is looked at in a store: these suites, or if there are none, those that it remembers (of this profile)."""

    suites: Sequence[Path] = ()
    profile: str | None = None
    data_dir: Path | None = None


def compare(baseline: Path, new: Path, options: Options, chosen: Chosen | None = None) -> Check:
    """Compare two results, each the CSV of a leaderboard or a table, a folder of these, or a store.

    Raises `SpecError` if they cannot be compared, and `StoreError` if one cannot be read.
    """
    chosen = chosen or Chosen()
    kinds = _kind(baseline), _kind(new)
    if set(kinds) == {"table", "board"}:
        raise SpecError(
            f"{baseline} is a {_WORDS[kinds[0]]}, and {new} a {_WORDS[kinds[1]]}: their rows are not the same; compare "
            "like with like, or name the store that they were made from"
        )
    if chosen.suites and "store" not in kinds:
        raise SpecError(f"{chosen.suites[0]}: suites say what to look at in a store, and neither side is one")
    before, after = (None if k == "store" else _read(p, k) for p, k in zip((baseline, new), kinds, strict=True))
    threats = {threat_of(row) for side in (before, after) if side for row in side.rows} if "board" in kinds else None
    return check(before or _stored(baseline, chosen, threats), after or _stored(new, chosen, threats), options)


def _stored(path: Path, chosen: Chosen, threats: set[tuple[str, ...]] | None) -> Side:
    """A store as the other side has it: entries of a leaderboard about these data sets and norms, or a table's rows."""
    return _rows_of(path, chosen) if threats is None else _boards_of(path, chosen, threats)


_WORDS = {"table": "table", "board": "leaderboard", "store": "store"}


def _kind(path: Path) -> str:
    if (path / "format.json").is_file():
        return "store"
    files = _files(path)
    kinds = {"board" if {"entry", "evidence"} <= set(header(file)) else "table" for file in files}
    if len(kinds) > 1:
        raise SpecError(f"{path}: holds leaderboards and tables; name one of its files")
    return kinds.pop()


def _files(path: Path) -> list[Path]:
    """The CSV itself; of a folder, its table.csv, those of its folders, or else all its leaderboards."""
    if not path.is_dir():
        return [path]
    for pattern in ("table.csv", "*/table.csv", "*.csv"):
        found = sorted(path.glob(pattern))
        if found:
            return found
    raise SpecError(f"{path}: neither a store nor a folder with the CSV of a leaderboard or a table")


def _read(path: Path, kind: str) -> Side:
    read = read_board if kind == "board" else read_table
    sides = [read(file) for file in _files(path)]
    if len(sides) == 1:
        return sides[0]
    rows: list[Row] = [row for side in sides for row in side.rows]
    return Side(str(path), unique(rows, str(path)), tuple(note for side in sides for note in side.notes))


def _rows_of(path: Path, chosen: Chosen) -> Side:
    """Rows as tables have them."""
    store, ran = _ran(path, chosen)
    return read_plans([each.plan for each in ran], store, str(path))


def _ran(path: Path, chosen: Chosen) -> tuple[Store, list[Ran]]:
    store = Store(path)
    if chosen.suites:
        asked = Request(list(chosen.suites), chosen.profile or "paper", path, chosen.data_dir)
        plans = plans_of(asked, store, absent=[])
        return store, [Ran(plan, file_name(file), (), {}) for plan, file in zip(plans, chosen.suites, strict=True)]
    ran = remembered(store, chosen.profile)
    if not ran:
        of = f" of profile {chosen.profile}" if chosen.profile else ""
        raise SpecError(
            f"the store {path} remembers no suites{of}; name those that were run on it, with their profile: "
            "rstbench check BASELINE NEW SUITE... --profile PROFILE"
        )
    return store, ran


def _boards_of(path: Path, chosen: Chosen, threats: set[tuple[str, ...]]) -> Side:
    """Entries as a leaderboard would have them, but only those of data sets and norms that the other side is about."""
    store, ran = _ran(path, chosen)
    # As in `leaderboard build`: curves are of many epsilons, and no entries.
    ran = [each for each in ran if each.file or not each.plan.suite.run.name.endswith(CURVES)]
    # Parameters are no accuracies, and counting them would need torch.
    built = boards(ran, store, lambda fields: (0, 0))
    built = [each for each in built if (each.board.dataset, each.board.norm) in threats]
    entries = [entry for each in built for entry in each.board.entries]
    samples = {key: scores for each in built for key, scores in each.samples.items()}
    return of_board([entry.row for entry in entries], samples, networks_of(entries), str(path), path)


def run_check(
    baseline: Path, new: Path, options: Options, chosen: Chosen, form: Format, out: Path | None, console: Console
) -> int:
    """Compare, print and write; returns the exit code: 0, or 1 for a regression.

    form: text; json and junit replace it on standard output, unless they go to the file `out`; github adds annotations
    to it, and writes a summary to the file that $GITHUB_STEP_SUMMARY names, and to `out`.
    Raises like `compare`, and `StoreError` if a file cannot be written.
    """
    checked = compare(baseline, new, options, chosen)
    texts = {
        "text": lambda: _as_text(checked),
        "json": lambda: as_json(checked),
        "junit": lambda: as_junit(checked, datetime.now(UTC)),
        "github": lambda: as_markdown(checked),
    }
    if out is not None:
        _write(out, texts[form]())
    if form in ("json", "junit") and out is None:
        console.file.write(texts[form]())
        return checked.exit_code
    # A row's name may look like one of GitHub's commands where a line begins; between these two none is obeyed.
    token = secrets.token_hex(16)
    if form == "github":
        console.file.write(f"::stop-commands::{token}\n")
    show(checked, console)
    if form == "github":
        console.file.write(f"::{token}::\n")
        console.file.write(as_annotations(checked))
        summary = os.environ.get(SUMMARY_ENV)
        if summary:
            _append(Path(summary), as_markdown(checked))
    return checked.exit_code


def run_power(
    drop: float,
    discordant: float | None,
    baseline: Path | None,
    new: Path | None,
    options: Options,
    chosen: Chosen,
    form: Format,
    out: Path | None,
    console: Console,
) -> int:
    """Say how many test images it takes to see a drop of `drop` points; returns 0.

    discordant: share of images whose verdict differs; None: estimated from baseline and new, from the seeds of the
    baseline alone, or, with neither, several. Raises `SpecError` for what is out of range.
    """
    if form in ("junit", "github"):
        raise SpecError(f"--format {form}: --power has text and json")
    needed = _needed(drop, discordant, baseline, new, options, chosen)
    text = power_as_json(needed, drop, options)
    if form == "json" and out is None:
        console.file.write(text)
        return 0
    show_power(needed, drop, options, console)
    if out is not None:
        plain = io.StringIO()
        show_power(needed, drop, options, Console(file=plain, width=_WIDTH))
        _write(out, text if form == "json" else plain.getvalue())
    return 0


def _needed(
    drop: float,
    discordant: float | None,
    baseline: Path | None,
    new: Path | None,
    options: Options,
    chosen: Chosen,
) -> list[Needed]:
    if discordant is not None and baseline is not None:
        raise SpecError("--discordant: the share is given, or estimated from results; not both")
    if baseline is None:
        return given(drop, discordant, options)
    if new is None:
        kind = _kind(baseline)
        rows = (_rows_of(baseline, chosen) if kind == "store" else _read(baseline, kind)).rows
        shared = shared_among(options, len(rows))
        found = [of_row(drop, row, shared) for row in rows]
    else:
        pairs = [row for row in compare(baseline, new, options, chosen).rows if row.measured is not None]
        shared = shared_among(options, len(pairs))
        found = [of_pairs(drop, row.label, row.measured, shared) for row in pairs if row.measured is not None]
    known = [each for each in found if each is not None]
    if not known:
        raise SpecError(
            f"{baseline}: no per-image results, so the share of images that differ cannot be estimated; "
            "give it with --discordant"
        )
    return known


def _as_text(checked: Check) -> str:
    plain = io.StringIO()
    show(checked, Console(file=plain, width=_WIDTH))
    return plain.getvalue()


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error}); choose another with --out") from error


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StoreError(f"{path} (${SUMMARY_ENV}): cannot be written ({error.strerror or error})") from error
