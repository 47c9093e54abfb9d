"""From a figure's number to its files. What the command `figure` does."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from rstbench.errors import SpecError
from rstbench.report.figures import publish_figure
from rstbench.session import Request, plans_of
from rstbench.spec import load_suite
from rstbench.store import Store

NUMBERS = range(1, 15)
"""The paper's figures."""


def draw(which: str, folder: Path, request: Request, out: Path | None, partial: bool, console: Console) -> int:
    """Draw one figure from the store, computing nothing; returns the exit code.

    which: the paper's number of the figure, whose suite is `folder`/figureN_*.yaml, or the path of any suite that has a
    `figure`. request: all but its suites. partial: draw what there is. Raises `SpecError` for a figure that is not
    there, and like `publish_figure`.
    """
    path = suite_of(which, folder)
    asked = replace(request, suites=[path])
    store = Store(request.store)
    (plan,) = plans_of(asked, store)
    target = out or Path("results") / f"{plan.suite.run.name}-{plan.suite.profile}"
    drawn = publish_figure(plan, store, target, command(path, request), partial)
    if drawn.missing:
        console.print(f"drawn without {len(drawn.missing)} cells that are not in the store", style="yellow")
    console.print(f"figure: {', '.join(map(str, drawn.paths))}", markup=False, highlight=False, soft_wrap=True)
    return 0


def suite_of(which: str, folder: Path) -> Path:
    """The suite file of a figure. Raises `SpecError` if there is none, or more than one."""
    if not which.isdecimal():
        path = Path(which)
        if load_suite(path).run.figure is None:
            raise SpecError(
                f"{path}: this suite has no `figure`; a figure is a number from 1 to 14, or a suite with one"
            )
        return path
    if int(which) not in NUMBERS:
        raise SpecError(f"figure {which}: the paper has figures 1 to 14")
    found = sorted(folder.glob(f"figure{int(which)}_*.yaml"))
    if len(found) == 1:
        number = getattr(load_suite(found[0]).run.figure, "paper", None)
        if number != int(which):
            raise SpecError(f"{found[0]}: its name says figure {which}, its `figure.paper` says {number}")
        return found[0]
    if found:
        raise SpecError(f"{len(found)} suites are of figure {which} ({', '.join(map(str, found))}); name one of them")
    known = sorted({int(n[1]) for path in folder.glob("figure*_*.yaml") if (n := re.match(r"figure(\d+)_", path.name))})
    has = f"it has figures {', '.join(map(str, known))}" if known else "there are no suites of figures"
    raise SpecError(f"no suite figure{which}_*.yaml in {folder}; {has}; choose another folder with --suites")


def command(path: Path, request: Request) -> str:
    """What computes the cells of a suite."""
    words = ["rstbench", "run", str(path), "--profile", request.profile, "--store", str(request.store)]
    words += ["--data-dir", str(request.data_dir)] if request.data_dir is not None else []
    words += [word for seed in request.seeds for word in ("--seed", str(seed))]
    return shlex.join(words)
