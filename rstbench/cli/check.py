"""The command that compares two results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rstbench.cli.shared import DataOption, PluginOption, Profile, console, register
from rstbench.errors import SpecError


def check(
    what: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="BASELINE NEW SUITE",
            help="Each a leaderboard's CSV, a table.csv, a folder of these, or a store. Suites: what to look at in a "
            "store, if not all that was run on it.",
            show_default=False,
        ),
    ] = None,
    margin: Annotated[float, typer.Option(help="Points within which a difference does not matter.")] = 1.0,
    alpha: Annotated[float, typer.Option(help="Level of tests and intervals.")] = 0.05,
    drop: Annotated[
        float | None,
        typer.Option(help="Points a significant drop must have; default: any not shown to be within the margin."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A row that is missing counts as a regression.")] = False,
    format: Annotated[
        Literal["text", "json", "junit", "github"],
        typer.Option(help="github: with annotations, and a summary in $GITHUB_STEP_SUMMARY."),
    ] = "text",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also write the result here.")] = None,
    profile: Annotated[Profile | None, typer.Option(help="Of a store's suites; default: all, or paper.")] = None,
    data_dir: DataOption = None,
    power: Annotated[
        float | None,
        typer.Option("--power", metavar="POINTS", help="Instead: how many test images it takes to see such a drop."),
    ] = None,
    discordant: Annotated[
        float | None,
        typer.Option(help="With --power: share of images whose verdict differs; default: from BASELINE [NEW]."),
    ] = None,
    power_level: Annotated[float, typer.Option(help='Chance with which "the n that would tell" would.')] = 0.8,
    plugin: PluginOption = None,
) -> None:
    """Has robust accuracy dropped? Compare two results row by row: better, same, worse, or cannot tell."""
    from rstbench.report.regression.options import Options
    from rstbench.session_check import Chosen, run_check, run_power

    register(plugin)
    options = Options(margin, alpha, drop, power_level, strict)
    given = [*(what or []), None, None]
    chosen = Chosen((what or [])[2:], profile.value if profile else None, data_dir)
    baseline, new = given[0], given[1]
    if power is not None:
        raise typer.Exit(run_power(power, discordant, baseline, new, options, chosen, format, out, console()))
    if discordant is not None:
        raise SpecError("--discordant belongs to --power")
    if baseline is None or new is None:
        raise SpecError("two results are compared: rstbench check BASELINE NEW")
    raise typer.Exit(run_check(baseline, new, options, chosen, format, out, console()))
