"""Tables and figures of what is stored, computing nothing. What the commands `table` and `figure` do."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from rstbench.errors import SpecError, StoreError
from rstbench.plan import Plan
from rstbench.report.figures import publish_figure
from rstbench.report.measure import measure_plan
from rstbench.report.missing import lacking
from rstbench.report.publish import publish
from rstbench.session import Request, plans_of, show
from rstbench.spec import load_suite
from rstbench.store import Store

NUMBERS = {"table": range(1, 10), "figure": range(1, 15)}
"""The paper's tables and figures."""


def tabulate(which: str, folder: Path, request: Request, out: Path | None, partial: bool, console: Console) -> int:
    """Write and print one table from the store, computing nothing; returns the exit code.

    which: the paper's number of the table, whose suite is `folder`/tableN_*.yaml, or the path of any suite. request:
    all but its suites. partial: leave what is missing blank. Raises `SpecError` for a table that is not there,
    `StoreError` where the store lacks a cell (unless partial), naming the command that computes it.
    """
    path = suite_of("table", which, folder)
    plan, store, target = _planned(path, request, out)
    results = measure_plan(plan, store)
    missing = [result.cell for result in results if not result.done]
    if missing and not partial:
        raise StoreError(lacking(plan, store, missing, len(results), command(path, request)))
    show(publish(plan, store, target), plan, console)
    return 0


def draw(which: str, folder: Path, request: Request, out: Path | None, partial: bool, console: Console) -> int:
    """Draw one figure from the store, computing nothing; returns the exit code.

    which: the paper's number of the figure, whose suite is `folder`/figureN_*.yaml, or the path of any suite that has a
    `figure`. request: all but its suites. partial: draw what there is. Raises `SpecError` for a figure that is not
    there, and like `publish_figure`.
    """
    path = suite_of("figure", which, folder)
    plan, store, target = _planned(path, request, out)
    drawn = publish_figure(plan, store, target, command(path, request), partial)
    if drawn.missing:
        console.print(f"drawn without {len(drawn.missing)} cells that are not in the store", style="yellow")
    console.print(f"figure: {', '.join(map(str, drawn.paths))}", markup=False, highlight=False, soft_wrap=True)
    return 0


def suite_of(kind: str, which: str, folder: Path) -> Path:
    """The suite file of a table or figure (`kind`). Raises `SpecError` if there is none, or more than one."""
    numbers = NUMBERS[kind]
    if not which.isdecimal():
        path = Path(which)
        if load_suite(path).run.figure is None and kind == "figure":
            raise SpecError(
                f"{path}: this suite has no `figure`; a figure is a number from 1 to 14, or a suite with one"
            )
        return path
    if int(which) not in numbers:
        raise SpecError(f"{kind} {which}: the paper has {kind}s {numbers[0]} to {numbers[-1]}")
    found = sorted(folder.glob(f"{kind}{int(which)}_*.yaml"))
    if len(found) == 1:
        number = getattr(getattr(load_suite(found[0]).run, kind), "paper", None)
        if number != int(which):
            raise SpecError(f"{found[0]}: its name says {kind} {which}, its `{kind}.paper` says {number}")
        return found[0]
    if found:
        raise SpecError(f"{len(found)} suites are of {kind} {which} ({', '.join(map(str, found))}); name one of them")
    names = [re.match(rf"{kind}(\d+)_", path.name) for path in folder.glob(f"{kind}*_*.yaml")]
    known = sorted({int(name[1]) for name in names if name})
    has = f"it has {kind}s {', '.join(map(str, known))}" if known else f"there are no suites of {kind}s"
    raise SpecError(f"no suite {kind}{which}_*.yaml in {folder}; {has}; choose another folder with --suites")


def _planned(path: Path, request: Request, out: Path | None) -> tuple[Plan, Store, Path]:
    store = Store(request.store)
    (plan,) = plans_of(replace(request, suites=[path]), store)
    return plan, store, out or Path("results") / f"{plan.suite.run.name}-{plan.suite.profile}"


def command(path: Path, request: Request) -> str:
    """What computes the cells of a suite."""
    words = ["rstbench", "run", str(path), "--profile", request.profile, "--store", str(request.store)]
    words += ["--data-dir", str(request.data_dir)] if request.data_dir is not None else []
    words += [word for seed in request.seeds for word in ("--seed", str(seed))]
    words += [word for pair in (request.only or {}).items() for word in ("--only", "=".join(pair))]
    return shlex.join(words)
