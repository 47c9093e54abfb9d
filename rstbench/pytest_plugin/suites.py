"""A suite against its baseline: run it, read both sides, compare."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rstbench.errors import RunError, StoreError
from rstbench.report.regression.options import Options
from rstbench.report.regression.verdicts import Check
from rstbench.session_check import compare

TABLE = "table.csv"
"""A baseline of this name is the table of a run; any other is a leaderboard."""
_WIDTH = 120
_BESIDE_TABLE = (TABLE, "samples.parquet", "details.csv")


@dataclass(frozen=True)
class Asked:
    """What to run, with the options of `rstbench run`."""

    suite: Path
    profile: str
    store: Path
    seeds: tuple[int, ...]
    data_dir: Path | None
    device: str | None
    workers: int | None
    plugins: tuple[str, ...]

    def default_baseline(self) -> Path:
        """Where the leaderboards of the suite lie if nobody says so. Raises `SpecError` for a faulty suite."""
        from rstbench.spec import load_suite

        return Path("leaderboards") / f"{load_suite(self.suite, self.profile).run.name}-{self.profile}"


def check_suite(
    asked: Asked, baseline: Path, options: Options, folder: Path, written: Callable[[Path], None] | None
) -> Check:
    """Run the suite into its store, and compare what came out with the baseline.

    folder: empty; results are put there. written: to be told of baselines, which then are written first. Raises
    errors of the `RstbenchError` tree: faulty suites, runs that fail, baselines that cannot be read or written.
    """
    if written is None and not baseline.exists():
        raise StoreError(f"{baseline}: no such baseline; --rstbench-update writes it")
    _run(asked, folder / "results")
    if baseline.name == TABLE:
        made = folder / "results" / TABLE
        if written is not None:
            _copy([made.with_name(name) for name in _BESIDE_TABLE], baseline.parent, _BESIDE_TABLE)
            written(baseline)
        return compare(baseline, made, options)
    boards = _boards(asked, folder / "leaderboard")
    if written is not None:
        for path in _write_boards(boards, baseline):
            written(path)
    return compare(baseline, folder / "leaderboard", options)


def _run(asked: Asked, out: Path) -> None:
    from rich.console import Console

    from rstbench.execute.local import Settings
    from rstbench.session import Request, run

    if asked.plugins:
        from rstbench.foreign.plugins import register_modules

        register_modules(asked.plugins)
    said = io.StringIO()
    request = Request([asked.suite], asked.profile, asked.store, asked.data_dir, asked.seeds)
    settings = Settings(asked.data_dir, asked.device, asked.workers, None, asked.plugins)
    if run(request, settings, out, Console(file=said, width=_WIDTH)):
        raise RunError(f"{asked.suite}: the run ended short of its goal\n{said.getvalue()}")


def _boards(asked: Asked, out: Path) -> list[Path]:
    from rich.console import Console

    from rstbench import session_leaderboard

    said = io.StringIO()
    of = session_leaderboard.Asked([asked.store], [asked.suite], asked.profile, asked.data_dir, asked.seeds)
    if session_leaderboard.build(of, out, Console(file=said, width=_WIDTH)):
        raise RunError(f"{asked.suite}: makes no leaderboard; a {TABLE} can be its baseline\n{said.getvalue()}")
    return sorted(out.glob("*.csv"))


def _write_boards(boards: Sequence[Path], baseline: Path) -> list[Path]:
    """Copy leaderboards into the folder `baseline`, or the one there is to that CSV file."""
    if baseline.suffix != ".csv":
        for path in boards:
            _copy(_files(path), baseline, [each.name for each in _files(path)])
        return [baseline / path.name for path in boards]
    if len(boards) != 1:
        names = ", ".join(path.name for path in boards)
        raise StoreError(f"{baseline}: the suite makes {len(boards)} leaderboards ({names}); name a folder for them")
    _copy(_files(boards[0]), baseline.parent, [each.name for each in _files(baseline)])
    return [baseline]


def _files(path: Path) -> list[Path]:
    from rstbench.report.leaderboard.files import json_beside, samples_beside

    return [samples_beside(path), json_beside(path), path]


def _copy(files: Sequence[Path], folder: Path, names: Sequence[str]) -> None:
    from rstbench.report.files import write

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, name in zip(files, names, strict=True):
            write(folder / name, lambda place, path=path: shutil.copyfile(path, place))  # type: ignore[misc]
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror or error})") from error
