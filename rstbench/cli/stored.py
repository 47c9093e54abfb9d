"""The commands that show a table or a figure from the store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rstbench.cli.shared import (
    DataOption,
    OnlyOption,
    OutOption,
    PluginOption,
    Profile,
    ProfileOption,
    SeedOption,
    StoreOption,
    console,
    register,
    request,
)


def figure(
    which: Annotated[
        str,
        typer.Argument(
            metavar="FIGURE", help="Number of the paper's figure, or a suite file with a `figure`.", show_default=False
        ),
    ],
    profile: ProfileOption = Profile.paper,
    store: StoreOption = None,
    suites: Annotated[Path, typer.Option("--suites", metavar="DIR", help="Where the figures' suites lie.")] = Path(
        "suites"
    ),
    out: OutOption = None,
    data_dir: DataOption = None,
    seed: SeedOption = None,
    partial: Annotated[bool, typer.Option("--partial", help="Draw what there is; panels say what they lack.")] = False,
    plugin: PluginOption = None,
) -> None:
    """Draw a figure from stored results: PNG, SVG, and its points as CSV."""
    from rstbench.session_stored import draw

    register(plugin)
    asked = request([], profile, store, data_dir, seed, None)
    raise typer.Exit(draw(which, suites, asked, out, partial, console()))


def table(
    which: Annotated[
        str,
        typer.Argument(metavar="TABLE", help="Number of the paper's table, or a suite file.", show_default=False),
    ],
    profile: ProfileOption = Profile.paper,
    store: StoreOption = None,
    suites: Annotated[Path, typer.Option("--suites", metavar="DIR", help="Where the tables' suites lie.")] = Path(
        "suites"
    ),
    out: OutOption = None,
    data_dir: DataOption = None,
    seed: SeedOption = None,
    only: OnlyOption = None,
    partial: Annotated[bool, typer.Option("--partial", help="Show what there is; the rest stays blank.")] = False,
    plugin: PluginOption = None,
) -> None:
    """Show a table from stored results, and write its files; nothing is computed."""
    from rstbench.session_stored import tabulate

    register(plugin)
    asked = request([], profile, store, data_dir, seed, only)
    raise typer.Exit(tabulate(which, suites, asked, out, partial, console()))
