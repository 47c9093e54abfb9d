"""The commands `leaderboard build` and `leaderboard verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rstbench.cli.page import page
from rstbench.cli.shared import DataOption, DeviceOption, OnlyOption, Profile, SeedOption, console

leaderboard_app = typer.Typer(no_args_is_help=True, help="Leaderboards that others can check.")

StoresOption = Annotated[
    list[Path] | None,
    typer.Option("--store", metavar="DIR", help="Store of results; repeatable. Default: $RSTBENCH_STORE or .rstbench"),
]


def _stores(named: list[Path] | None) -> list[Path]:
    from rstbench.store import default_root

    return named or [default_root()]


@leaderboard_app.command()
def build(
    suites: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[SUITE]", help="Suite files; default: all that the stores remember.", show_default=False
        ),
    ] = None,
    store: StoresOption = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the leaderboards go.")] = Path(
        "results/leaderboards"
    ),
    profile: Annotated[
        Profile | None, typer.Option(help="Of the suites (default: paper); without suites: only this one.")
    ] = None,
    data_dir: DataOption = None,
    seed: SeedOption = None,
    only: OnlyOption = None,
) -> None:
    """Build leaderboards from what is stored: CSV, JSON with all rows behind it, per-image scores."""
    from rstbench.options import conditions
    from rstbench.session_leaderboard import Asked
    from rstbench.session_leaderboard import build as build_boards

    chosen = conditions(only or [])
    asked = Asked(_stores(store), suites or [], profile and profile.value, data_dir, seed or (), chosen)
    raise typer.Exit(build_boards(asked, out, console()))


@leaderboard_app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="CSV", help="A leaderboard; its JSON and scores lie beside it.")],
    store: StoresOption = None,
    rerun: Annotated[
        int, typer.Option("--rerun", min=0, metavar="N", help="Also judge and attack N random images of each row anew.")
    ] = 0,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Which images --rerun takes; default: from the CSV's digest.")
    ] = None,
    data_dir: DataOption = None,
    device: DeviceOption = None,
) -> None:
    """Compute every figure anew from the store, and name what differs; exit code 1 if anything does."""
    from rstbench.session_leaderboard import verify as verify_board

    raise typer.Exit(verify_board(file, _stores(store), console(), rerun, seed, data_dir, device))


leaderboard_app.command("page")(page)
