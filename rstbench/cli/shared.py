"""What several commands have in common: their options, and how requests are made of them."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from rstbench.session import Request


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


OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Results; default: results/<suite>-<profile>")
]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; default: a GPU if there is one.")]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Worker processes; default: one a CPU core, or one GPU.")
]
PluginOption = Annotated[
    list[str] | None, typer.Option(metavar="MODULE", help="Module that registers networks; repeatable.")
]


def register(plugins: list[str] | None) -> tuple[str, ...]:
    """Import the modules of `--plugin`, and name them for the workers."""
    if plugins:
        from rstbench.foreign.plugins import register_modules

        register_modules(plugins)
    return tuple(plugins or ())


def console() -> Console:
    """Standard output, as wide as it is; wide where nobody looks."""
    from rich.console import Console

    # Where nobody looks, 80 columns would only fold tables that a file has room for.
    return Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=160)


def request(
    suites: list[Path],
    profile: Profile,
    store: Path | None,
    data_dir: Path | None,
    seed: list[int] | None,
    only: list[str] | None,
) -> Request:
    """What the options of `run` and `plan` ask for."""
    from rstbench.options import conditions
    from rstbench.session import Request
    from rstbench.store import default_root

    return Request(suites, profile.value, store or default_root(), data_dir, seed or (), conditions(only or []))
