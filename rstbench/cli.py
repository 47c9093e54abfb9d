"""The commands. No logic here; heavy imports stay inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rstbench import __version__
from rstbench.errors import DataError, RstbenchError

if TYPE_CHECKING:
    from rich.console import Console

    from rstbench.session import Request

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Search robust scratch tickets, attack them, and regenerate the paper's tables from suites.",
)
ticket_app = typer.Typer(no_args_is_help=True, help="Look into ticket files.")
data_app = typer.Typer(no_args_is_help=True, help="Data sets.")
app.add_typer(ticket_app, name="ticket")
app.add_typer(data_app, name="data")


class Profile(StrEnum):
    """The profiles of `spec.suite.PROFILES`, which is not imported here: it takes time."""

    paper = "paper"
    express = "express"
    desk = "desk"
    smoke = "smoke"


Suites = Annotated[list[Path], typer.Argument(metavar="SUITE", help="Suite files (YAML).", show_default=False)]
ProfileOption = Annotated[Profile, typer.Option(help="How much to run: the paper's setting, or a smaller one.")]
StoreOption = Annotated[
    Path | None, typer.Option("--store", metavar="DIR", help="Store of results; default: $RSTBENCH_STORE or .rstbench")
]
DataOption = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Data sets; default: $RSTBENCH_DATA or data")
]
SeedOption = Annotated[
    list[int] | None, typer.Option("--seed", min=0, max=2**63 - 1, help="Instead of the profile's seeds; repeatable.")
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="COLUMN=VALUE", help="Only these cells, e.g. dataset=cifar10; repeatable."),
]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"rstbench {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    suites: Suites,
    profile: ProfileOption = Profile.paper,
    store: StoreOption = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Results; default: results/<suite>-<profile>")] = None,
    data_dir: DataOption = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; default: a GPU if there is one.")] = None,
    seed: SeedOption = None,
    only: OnlyOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; default: one a CPU core, or one GPU.")
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(metavar="9m", help="Stop cleanly after this time (s, m, h).")
    ] = None,
) -> None:
    """Run suites: search, attack, evaluate, and write their tables."""
    from rstbench.execute.local import Settings
    from rstbench.options import seconds
    from rstbench.session import run as run_suites

    limit = None if time_limit is None else seconds(time_limit)
    settings = Settings(data_dir, device, workers, limit)
    try:
        code = run_suites(_request(suites, profile, store, data_dir, seed, only), settings, out, _console())
    except KeyboardInterrupt:
        typer.echo("\nstopped; everything finished is kept. Run the same command to go on.", err=True)
        raise typer.Exit(130) from None
    raise typer.Exit(code)


@app.command()
def plan(
    suites: Suites,
    profile: ProfileOption = Profile.paper,
    store: StoreOption = None,
    data_dir: DataOption = None,
    seed: SeedOption = None,
    only: OnlyOption = None,
    format: Annotated[Literal["table", "json"], typer.Option(help="json: for programs")] = "table",
) -> None:
    """Show what a run would do: nodes, what is stored, what is shared, what it costs."""
    from rstbench import session
    from rstbench.estimate import as_json
    from rstbench.plan import merge_nodes
    from rstbench.store import Store

    request = _request(suites, profile, store, data_dir, seed, only)
    opened = Store(request.store)
    absent: list[DataError] = []
    plans = session.plans_of(request, opened, absent=absent)
    for error in absent:
        typer.echo(f"planned with the published numbers of images, because {error}", err=True)
    if format == "json":
        typer.echo(as_json(plans, merge_nodes(plans), opened))
    else:
        session.show_plan(plans, opened, _console())


@app.command()
def validate(suites: Suites) -> None:
    """Check suite files; all faults of a file are listed at once, with their lines."""
    from rstbench.spec import find_faults

    faulty = False
    for path in suites:
        try:
            faults = [fault.render(str(path)) for fault in find_faults(path)]
        except RstbenchError as error:
            faults = [str(error)]
        for fault in faults:
            typer.echo(fault, err=True)
        faulty |= bool(faults)
        if not faults:
            typer.echo(f"{path}: valid")
    raise typer.Exit(2 if faulty else 0)


@app.command()
def schema() -> None:
    """Print the JSON Schema of suite files, for editors."""
    import json

    from rstbench.spec import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command()
def paper(
    format: Annotated[Literal["table", "csv", "markdown"], typer.Option(help="csv: the file as it is")] = "table",
    table: Annotated[int | None, typer.Option(min=1, max=9, help="Only this table.")] = None,
) -> None:
    """Print the paper's reference values."""
    from rstbench.report.paper import render_paper

    text = render_paper(format, table)
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


@ticket_app.command("inspect")
def ticket_inspect(file: Annotated[Path, typer.Argument(help="Ticket file.")]) -> None:
    """Say what a ticket is, its ratio layer by layer, and verify it: digests, weights, layers."""
    from rstbench.tickets.inspect import inspect

    inspect(file, _console())


@data_app.command("download")
def data_download(
    name: Annotated[str, typer.Argument(help="cifar10, cifar100, svhn or mnist")], data_dir: DataOption = None
) -> None:
    """Fetch a data set through torchvision into the data directory."""
    from rstbench.data.sources import download
    from rstbench.options import dataset

    typer.echo(f"{name} lies at {download(dataset(name), data_dir)}")


def _console() -> Console:
    from rich.console import Console

    # Where nobody looks, 80 columns would only fold tables that a file has room for.
    return Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=160)


def _request(
    suites: list[Path],
    profile: Profile,
    store: Path | None,
    data_dir: Path | None,
    seed: list[int] | None,
    only: list[str] | None,
) -> Request:
    from rstbench.options import conditions
    from rstbench.session import Request
    from rstbench.store import default_root

    return Request(suites, profile.value, store or default_root(), data_dir, seed or (), conditions(only or []))


def main() -> None:
    """Entry point of the console script: errors a user can cause end in one message, without a traceback."""
    try:
        app()
    except RstbenchError as error:
        typer.echo(f"rstbench: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
