"""Measure how fast this machine does the work of suites. What the command `calibrate` does."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from rich.console import Console

from rstbench.errors import DeviceError
from rstbench.estimate.calibration import Calibration, of_machine, write
from rstbench.estimate.compare import learned_shares
from rstbench.estimate.units import Unit
from rstbench.execute.progress import duration
from rstbench.plan import merge_nodes
from rstbench.session import Request, plans_of
from rstbench.store import Store

_BUSY = 1.25
"""Seconds measured for each second computed, from which on somebody else had the CPU for long."""


def calibrate(request: Request, device: str | None, least_s: float, console: Console) -> int:
    """Measure every distinct unit of work of the suites' plans, and keep the rates in the store; returns 0.

    least_s: seconds that each unit is measured for, after a first time that does not count.

    What was measured before on this machine and is not asked for now is kept. What this machine cannot do, such as
    the work of an engine that needs a compiler, is named and left out. Raises `DataError` where data are missing,
    `DeviceError` for a device that is not there, `StoreError` if the store cannot be written. Interrupted, it keeps
    what it has.
    """
    from rstbench.build.bench import Bench, choose_device
    from rstbench.build.calibrate import machine_of, measured, needed_units
    from rstbench.build.timing import Stopwatch

    store = Store(request.store)
    nodes = merge_nodes(plans_of(request, store, create=True))
    store.prepare()
    bench = Bench(store, request.data_dir, choose_device(device))
    machine = machine_of(bench.device)
    before = of_machine(store.root, machine) or Calibration(machine, "", {})
    total = len(needed_units(nodes))
    console.print(f"{total} units of work on {machine}, a second or two each", highlight=False)
    rates: dict[Unit, float] = {}
    started, watch, left_out = time.monotonic(), Stopwatch(bench.device, least_s), 0
    try:
        for unit, found in measured(nodes, bench, watch):
            at = f"[{len(rates) + left_out + 1}/{total}] {unit.what}"
            if isinstance(found, DeviceError):
                left_out += 1
                words = f"{at}  not measured: {found}  {unit.of}"
                console.print(words, style="yellow", markup=False, highlight=False, soft_wrap=True)
                continue
            rates[unit] = found
            words = f"{at}  {found:.3g} s  {unit.of}"
            console.print(words, markup=False, highlight=False, no_wrap=True, overflow="ellipsis", crop=True)
    finally:
        if rates:
            today = datetime.now(UTC).date().isoformat()
            path = write(store.root, before.with_rates(rates, today, learned_shares(nodes, store)))
            took = duration(time.monotonic() - started)
            console.print(f"rates: {path} ({took})", markup=False, highlight=False, soft_wrap=True)
    if left_out:
        console.print(
            f"{left_out} of {total} units of work cannot be done on this machine: nodes that need them count at the "
            "stated rates, and would fail here.",
            style="yellow",
        )
    if machine.device == "cpu" and watch.wall > _BUSY * watch.cpu:
        console.print(
            f"The machine was busy: the measurements waited for a CPU {1 - watch.cpu / watch.wall:.0%} of the time, so "
            "these rates are those of a busy machine. Calibrate again when it is idle.",
            style="yellow",
        )
    return 0
