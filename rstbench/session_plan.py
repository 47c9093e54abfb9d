"""What a plan costs, for people: what the command `plan` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from rstbench.errors import DeviceError, StoreError
from rstbench.estimate import CORE_FLOPS, GPU_FLOPS, Left, costs, left
from rstbench.estimate.calibration import Calibration, of_machine
from rstbench.estimate.compare import by_kind, compare
from rstbench.estimate.forecast import Forecast, course
from rstbench.estimate.listing import as_json
from rstbench.estimate.machine import Machine, cores, this_machine
from rstbench.execute.progress import duration
from rstbench.nodes import Node
from rstbench.plan import Plan, merge_nodes
from rstbench.store import Store


def show_plan(
    plans: Sequence[Plan], store: Store, console: Console, device: str | None = None, workers: int | None = None
) -> None:
    """Print nodes, what is stored, what is shared, and the estimated cost of what is left.

    device: where it would run, default as `run`. workers: default: one for each CPU core, or for the GPU. Raises
    `StoreError` if the store's calibration cannot be understood, and `DeviceError` for a kind of device that is not
    known.
    """
    machine = this_machine(device)
    calibration = of_machine(store.root, machine)
    table = Table(title=" + ".join(f"{p.suite.run.name} ({p.suite.profile})" for p in plans))
    for name in ("kind", "nodes", "stored", "shared", "forward passes", "PFLOP"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for row in costs(plans, store):
        numbers = (row.nodes, row.stored, row.shared, f"{row.passes:.3g}", f"{2 * row.macs / 1e15:.3g}")
        table.add_row(row.kind, *map(str, numbers))
    console.print(table)
    if len(plans) > 1:
        console.print(_costs_by_suite(plans, store))
    nodes = merge_nodes(plans)
    if all(map(store.has, nodes)):
        console.print("Nothing is left to compute: all of it is in the store.", highlight=False)
        return
    console.print(_stated(left(nodes, store)), highlight=False)
    if calibration is None:
        console.print(
            "These are stated rates, nothing is measured on this machine; `rstbench calibrate`, with the same suites "
            "and profile, does that in a minute or two.",
            highlight=False,
        )
        return
    console.print(_calibrated(nodes, store, calibration, workers or _workers(machine)), highlight=False)


def plan_as_json(plans: Sequence[Plan], store: Store, device: str | None = None, workers: int | None = None) -> str:
    """The same as JSON. Raises like `show_plan`."""
    machine = this_machine(device)
    calibration = of_machine(store.root, machine)
    return as_json(plans, merge_nodes(plans), store, calibration, workers or _workers(machine))


def _workers(machine: Machine) -> int:
    return cores() if machine.device == "cpu" else 1


def expected_seconds(
    nodes: Mapping[str, Node], missing: Mapping[str, Node], store: Store, device: str | None
) -> dict[str, float] | None:
    """Seconds that each missing node takes on this machine; None where nobody measured that."""
    try:
        calibration = of_machine(store.root, this_machine(device))
    except (StoreError, DeviceError):  # a run needs no calibration; `plan`, or a worker, says what is wrong
        return None
    if calibration is None:
        return None
    return {key: max(1e-3, spent) for key, spent in course(missing, Forecast(nodes, calibration), 1).seconds.items()}


def _stated(rest: Left) -> str:
    gpu, core = ([f"{flops[p] / unit:.0f} {name} in {p}" for p in ("bf16", "fp32")] for flops, unit, name in _RATES)
    return (
        "A forward pass is one image through one network; a pass to the input counts as one more.\n"
        f"Left to compute: {rest.flop / 1e15:.3g} PFLOP, about {rest.gpu_hours:.3g} GPU-hours "
        f"(one H200 at {gpu[0]}, {gpu[1]}) or {duration(rest.core_seconds)} of one CPU core "
        f"(at {core[0]}, {core[1]})."
    )


_RATES = ((GPU_FLOPS, 1e12, "TFLOP/s"), (CORE_FLOPS, 1e9, "GFLOP/s"))


def _calibrated(nodes: Mapping[str, Node], store: Store, calibration: Calibration, workers: int) -> str:
    missing = {key: node for key, node in nodes.items() if not store.has(key)}
    forecast = Forecast(nodes, calibration)
    known = sum(cost.calibrated for cost in forecast.costs(missing).values())
    alone = course(missing, forecast, 1).wall
    text = f"Calibrated on {calibration.date} on this machine ({calibration.machine}): about {duration(alone)}"
    if workers > 1:
        text += f" with 1 worker, {duration(course(missing, forecast, workers).wall)} with {workers}"
    text += "."
    if known < len(missing):
        text += (
            f" {len(missing) - known} of {len(missing)} nodes count at the stated rates: some of their work is not "
            "measured here; calibrate again with these suites and this profile."
        )
    if calibration.shares:
        text += " How many images stand is taken from what is stored, where an attack has run before."
    return text


def show_comparison(plans: Sequence[Plan], store: Store, console: Console, device: str | None = None) -> None:
    """Print predicted against measured time of the stored nodes that ran on this machine, kind by kind."""
    machine = this_machine(device)
    calibration = of_machine(store.root, machine)
    if calibration is None:
        console.print(f"nothing to compare: the store has no calibration of this machine ({machine})", highlight=False)
        return
    nodes = merge_nodes(plans)
    found = compare(nodes, store, calibration)
    stored = sum(store.has(key) for key in nodes)
    table = Table(
        title=f"Predicted against measured time ({calibration.machine}, calibrated on {calibration.date})",
        caption=f"{len(found)} of {stored} stored nodes ran on this machine and have measured rates.",
    )
    for name in ("kind", "nodes", "measured", "predicted", "ratio", "median ratio", "within 1.5", "worst ratio", "of"):
        table.add_column(name, justify="left" if name in ("kind", "of") else "right")
    for row in by_kind(found):
        worst = row.worst
        table.add_row(
            row.kind,
            str(row.nodes),
            duration(row.seconds),
            duration(row.predicted),
            f"{row.predicted / max(row.seconds, 1e-3):.2f}",
            f"{row.median_ratio:.2f}",
            f"{sum(each.off <= 1.5 for each in found if each.node.kind == row.kind)}",
            f"{worst.ratio:.2f}",
            f"{worst.node.title} ({duration(worst.seconds)})",
        )
    measured, predicted = (sum(getattr(each, name) for each in found) for name in ("seconds", "predicted"))
    console.print(table)
    if not found:
        return
    text = f"In all: {duration(measured)} measured, {duration(predicted)} predicted, "
    text += f"ratio {predicted / max(measured, 1e-3):.2f}."
    known = [each for each in found if each.computed is not None]
    waited = 1 - sum(each.computed or 0.0 for each in known) / max(sum(each.seconds for each in known), 1e-3)
    if known and machine.device == "cpu" and waited > _BUSY:
        text += f" These nodes waited for a CPU {waited:.0%} of the time: the machine was busy."
    console.print(text, highlight=False)


_BUSY = 0.2
"""Share of the time that work of one CPU thread waits for it, from which on others are to blame."""


def _costs_by_suite(plans: Sequence[Plan], store: Store) -> Table:
    """What each suite would cost alone; together they cost less, for they share nodes."""
    count = cores()
    table = Table(caption=f"Each as if it ran alone, without what is stored. This machine has {count} CPU cores.")
    for name in ("suite", "cells", "nodes", "GPU-hours", "CPU core-hours", f"hours on {count} cores"):
        table.add_column(name, justify="left" if name == "suite" else "right")
    for each in plans:
        rest = left(each.nodes, store)
        hours = rest.core_seconds / 3600
        numbers = [f"{rest.gpu_hours:.3g}", f"{hours:.3g}", f"{hours / count:.3g}"]
        table.add_row(each.suite.run.name, str(len(each.cells)), str(len(each.nodes)), *numbers)
    return table
