"""The command `leaderboard page`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def page(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `leaderboard build` wrote.")],
    out: Annotated[Path, typer.Option("--out", metavar="SITE", help="Folder of the site.")] = Path("results/pages"),
    suites: Annotated[
        Path, typer.Option("--suites", metavar="DIR", help="Folder of the suite files that entries link to.")
    ] = Path("suites"),
    title: Annotated[str, typer.Option(help="Name of the site.")] = "",
) -> None:
    """Make a static site from leaderboards; it needs no server and no network. Wants the extra `page`."""
    from rstbench.session_page import page as write

    index, written = write(folder, out, title, suites)
    typer.echo(f"{index}: {written}")
