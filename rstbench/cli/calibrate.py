"""The command that measures how fast this machine is."""

from __future__ import annotations

from typing import Annotated

import typer

from rstbench.cli.shared import (
    DataOption,
    DeviceOption,
    OnlyOption,
    PluginOption,
    Profile,
    ProfileOption,
    SeedOption,
    StoreOption,
    Suites,
    console,
    register,
    request,
)


def calibrate(
    suites: Suites,
    profile: ProfileOption = Profile.paper,
    store: StoreOption = None,
    data_dir: DataOption = None,
    device: DeviceOption = None,
    seed: SeedOption = None,
    only: OnlyOption = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="For how long to measure each unit of work, at least.")] = 0.6,
    plugin: PluginOption = None,
) -> None:
    """Measure how fast this machine does the work of suites, so that `plan` and `run` know how long it takes."""
    from rstbench.session_calibrate import calibrate as measure

    register(plugin)
    raise typer.Exit(measure(request(suites, profile, store, data_dir, seed, only), device, seconds, console()))
