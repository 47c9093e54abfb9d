"""Commands on one model, and on one attack of a suite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rstbench.cli.shared import (
    DataOption,
    DeviceOption,
    OutOption,
    PluginOption,
    Profile,
    ProfileOption,
    StoreOption,
    WorkersOption,
    console,
    register,
)


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE:NAME",
            help="robustbench:NAME, torchvision:ARCHITECTURE, timm:ARCHITECTURE, rstbench:FAMILY or plugin:NAME",
            show_default=False,
        ),
    ],
    dataset: Annotated[
        str, typer.Option(metavar="NAME", help="A data set, or folder:NAME or arrays:NAME of your own.")
    ],
    attack: Annotated[
        list[str] | None, typer.Option(help="Attack by name, e.g. pgd20; repeatable. Default: the whole battery.")
    ] = None,
    norm: Annotated[Literal["linf", "l2"], typer.Option(help="Norm of the budget.")] = "linf",
    epsilon: Annotated[str | None, typer.Option(help='Budget: linf "8/255" (default), l2 a number (0.5).')] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Test images attacked; default: all.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 256,
    image_size: Annotated[int | None, typer.Option(help="Pixels a side (imagenet, folders).")] = None,
    weights: Annotated[str | None, typer.Option(help="Published weights, e.g. IMAGENET1K_V2.")] = None,
    file: Annotated[str | None, typer.Option(help="State dict in the data directory.")] = None,
    threat: Annotated[Literal["Linf", "L2"] | None, typer.Option(help="RobustBench's list of the model.")] = None,
    width: Annotated[float, typer.Option(help="Multiplier of channel counts (source rstbench).")] = 1.0,
    normalise: Annotated[bool, typer.Option(help="Whether to normalise images before the model.")] = True,
    store: StoreOption = None,
    out: OutOption = None,
    data_dir: DataOption = None,
    device: DeviceOption = None,
    workers: WorkersOption = None,
    plugin: PluginOption = None,
) -> None:
    """Run the battery on one model, without writing a suite."""
    from rstbench.execute.local import Settings
    from rstbench.options import evaluated_data, model_fields
    from rstbench.session import Request, run
    from rstbench.spec.battery import battery, budget_value
    from rstbench.spec.made import model_suite
    from rstbench.store import default_root

    plugins = register(plugin)
    fields = model_fields(model, weights, file, threat, width, normalise)
    budget = budget_value(norm, epsilon)
    names = attack or list(battery(norm, switching=False))
    label = fields["name"].lower().replace("_", "-")
    suite = model_suite(label, fields, evaluated_data(dataset, image_size), names, norm, budget, samples, batch)
    request = Request([suite], "paper", store or default_root(), data_dir)
    folder = out or Path("results") / suite.run.name
    code = run(request, Settings(data_dir, device, workers, plugins=plugins), folder, console())
    raise typer.Exit(code)


def curves(
    suite: Annotated[Path, typer.Argument(metavar="SUITE", help="Suite file (YAML).", show_default=False)],
    defense: Annotated[str, typer.Option(help="Key in `defenses`.")],
    attack: Annotated[str, typer.Option(help="Key in `attacks`.")],
    profile: ProfileOption = Profile.paper,
    axis: Annotated[
        list[str] | None, typer.Option(help="steps, restarts or epsilon; repeatable. Default: all.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Key in `datasets`; default: the matrix's first.")] = None,
    network: Annotated[str | None, typer.Option(help="Key in `networks`; default: the matrix's first.")] = None,
    source: Annotated[str | None, typer.Option(help="Key in `defenses`: whose images; default: its own.")] = None,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Along epsilon, keep what fell at a smaller one; attack only the rest.")
    ] = False,
    store: StoreOption = None,
    out: OutOption = None,
    data_dir: DataOption = None,
    device: DeviceOption = None,
    workers: WorkersOption = None,
    plugin: PluginOption = None,
) -> None:
    """Robust accuracy over steps, restarts, and epsilon up to where it must reach chance: is the attack converged?"""
    from rstbench.execute.local import Settings
    from rstbench.session import Request, run_curves
    from rstbench.spec.suite import Cell
    from rstbench.store import default_root

    plugins = register(plugin)
    request = Request([suite], profile.value, store or default_root(), data_dir)
    settings = Settings(data_dir, device, workers, plugins=plugins)
    cell = Cell.model_construct(
        defense=defense, attack=attack, dataset=dataset, network=network, source=source, source_seed="same"
    )
    raise typer.Exit(run_curves(request, cell, axis or [], settings, out, console(), reuse))
