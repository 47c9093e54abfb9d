"""Measure how fast this machine does the work of suites. What the command `calibrate` does."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from rich.console import Console

from rstbench.estimate.calibration import Calibration, of_machine, write
from rstbench.estimate.compare import learned_shares
from rstbench.execute.progress import duration
from rstbench.plan import merge_nodes
from rstbench.session import Request, plans_of
from rstbench.store import Store

_BUSY = 1.25
"""Seconds measured for each second computed, from which on somebody else had the CPU for long."""


def calibrate(request: Request, device: str | None, least_s: float, console: Console) -> int:
    """Measure every distinct unit of work of the suites' plans, and keep the rates in the store; returns 0.

    least_s: seconds that each unit is measured for, after a first time that does not count.

    What was measured before on this machine and is not asked for now is kept. Raises `DataError` where data are
    missing, `DeviceError` for a device that is not there, `StoreError` if the store cannot be written. Interrupted, it
    keeps what it has.
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
    rates, started, watch = {}, time.monotonic(), Stopwatch(bench.device, least_s)
    try:
        for unit, seconds in measured(nodes, bench, watch):
            rates[unit] = seconds
            words = f"[{len(rates)}/{total}] {unit.what}  {seconds:.3g} s  {unit.of}"
            console.print(words, markup=False, highlight=False, no_wrap=True, overflow="ellipsis", crop=True)
    finally:
        if rates:
            today = datetime.now(UTC).date().isoformat()
            path = write(store.root, before.with_rates(rates, today, learned_shares(nodes, store)))
            took = duration(time.monotonic() - started)
            console.print(f"rates: {path} ({took})", markup=False, highlight=False, soft_wrap=True)
    if machine.device == "cpu" and watch.wall > _BUSY * watch.cpu:
        console.print(
            f"The machine was busy: the measurements waited for a CPU {1 - watch.cpu / watch.wall:.0%} of the time, so "
            "these rates are those of a busy machine. Calibrate again when it is idle.",
            style="yellow",
        )
    return 0
