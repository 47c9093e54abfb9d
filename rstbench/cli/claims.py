"""The command `claims`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from rstbench.cli.shared import DataOption, Profile, ProfileOption, StoreOption


def claims(
    store: StoreOption = None,
    profile: ProfileOption = Profile.paper,
    suites: Annotated[Path, typer.Option("--suites", metavar="DIR", help="Folder of the suites.")] = Path("suites"),
    format: Annotated[
        Literal["text", "markdown", "json"], typer.Option(help="json: everything, for programs")
    ] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    data_dir: DataOption = None,
) -> None:
    """Hold the paper's claims against the store: supported, refuted, indicative, undecided, not run, inconsistent."""
    from rstbench.report.claims.render import render
    from rstbench.session_claims import findings
    from rstbench.store import default_root

    found, where = findings(suites, profile.value, store or default_root(), data_dir)
    sys.stdout.buffer.write(render(found, where, "json" if as_json else format).encode())
    sys.stdout.buffer.flush()
