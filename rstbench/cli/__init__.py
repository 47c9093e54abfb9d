"""The commands. No logic here; heavy imports stay inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from rstbench import __version__
from rstbench.cli.calibrate import calibrate
from rstbench.cli.challenge import challenge
from rstbench.cli.check import check
from rstbench.cli.claims import claims
from rstbench.cli.leaderboard import leaderboard_app
from rstbench.cli.model import curves, evaluate
from rstbench.cli.shared import (
    DataOption,
    DeviceOption,
    OnlyOption,
    OutOption,
    PluginOption,
    Profile,
    ProfileOption,
    SeedOption,
    StoreOption,
    Suites,
    WorkersOption,
    console,
    register,
    request,
)
from rstbench.cli.stored import figure, table
from rstbench.errors import DataError, RstbenchError

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
app.add_typer(leaderboard_app, name="leaderboard")


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
    out: OutOption = None,
    data_dir: DataOption = None,
    device: DeviceOption = None,
    seed: SeedOption = None,
    only: OnlyOption = None,
    workers: WorkersOption = None,
    time_limit: Annotated[
        str | None, typer.Option(metavar="9m", help="Stop cleanly after this time (s, m, h).")
    ] = None,
    plugin: PluginOption = None,
) -> None:
    """Run suites: search, attack, evaluate, and write their tables."""
    from rstbench.execute.local import Settings
    from rstbench.options import seconds
    from rstbench.session import run as run_suites

    limit = None if time_limit is None else seconds(time_limit)
    settings = Settings(data_dir, device, workers, limit, register(plugin))
    try:
        code = run_suites(request(suites, profile, store, data_dir, seed, only), settings, out, console())
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
    device: DeviceOption = None,
    workers: WorkersOption = None,
    format: Annotated[Literal["table", "json"], typer.Option(help="json: for programs")] = "table",
    compare: Annotated[
        bool, typer.Option("--compare", help="Also: predicted against measured time of what is stored.")
    ] = False,
    plugin: PluginOption = None,
) -> None:
    """Show what a run would do: nodes, what is stored, what is shared, what it costs."""
    from rstbench import session, session_plan
    from rstbench.store import Store

    register(plugin)
    asked = request(suites, profile, store, data_dir, seed, only)
    opened = Store(asked.store)
    absent: list[DataError] = []
    plans = session.plans_of(asked, opened, absent=absent)
    for error in absent:
        typer.echo(f"planned with the published numbers of images, because {error}", err=True)
    if format == "json":
        typer.echo(session_plan.plan_as_json(plans, opened, device, workers))
        return
    session_plan.show_plan(plans, opened, console(), device, workers)
    if compare:
        session_plan.show_comparison(plans, opened, console(), device)


app.command("calibrate")(calibrate)
app.command("eval")(evaluate)
app.command("curves")(curves)
app.command("table")(table)
app.command("figure")(figure)
app.command("claims")(claims)
app.command("challenge")(challenge)
app.command("check")(check)


@app.command()
def export(
    suites: Suites,
    profile: ProfileOption = Profile.paper,
    store: StoreOption = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the folder model_info goes.")] = Path(
        "results/robustbench"
    ),
    data_dir: DataOption = None,
    seed: SeedOption = None,
    only: OnlyOption = None,
    plugin: PluginOption = None,
) -> None:
    """Write stored results as RobustBench's model_info JSON; a random switch is marked as outside its rules."""
    from rstbench import session

    register(plugin)
    raise typer.Exit(session.export(request(suites, profile, store, data_dir, seed, only), out, console()))


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
def ticket_inspect(
    file: Annotated[Path, typer.Argument(help="Ticket, fine-tuned or lottery ticket, or dense network.")],
    store: Annotated[
        Path | None, typer.Option("--store", metavar="DIR", help="Store with the weights of a ticket of trained ones.")
    ] = None,
) -> None:
    """Say what a ticket is, its ratio layer by layer, and verify it: digests, weights, layers."""
    from rstbench.store import Store
    from rstbench.tickets.inspect import inspect

    inspect(file, console(), None if store is None else Store(store))


@data_app.command("download")
def data_download(
    name: Annotated[str, typer.Argument(help="cifar10, cifar100, svhn or mnist")], data_dir: DataOption = None
) -> None:
    """Fetch a data set through torchvision into the data directory."""
    from rstbench.data.sources import download
    from rstbench.options import dataset

    typer.echo(f"{name} lies at {download(dataset(name), data_dir)}")


def main() -> None:
    """Entry point of the console script: errors a user can cause end in one message, without a traceback."""
    try:
        app()
    except RstbenchError as error:
        typer.echo(f"rstbench: {error}", err=True)
        sys.exit(error.exit_code)
