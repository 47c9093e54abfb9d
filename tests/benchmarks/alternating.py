"""Our work and its references in turns: each round times all of them, and a ratio is of times of the same round.

Another process, a warmer core or a lower clock then touches both sides of a ratio alike; the spread says how well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from tests.benchmarks.results import Results, Row

Work = Callable[[], object]


def seconds(work: Work, device: torch.device | None = None) -> float:
    """Wall seconds of the work, until the device has done all of it."""
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Case:
    """What is measured. subject, setting: where it stands in the tables; unit: what one run of the work is."""

    subject: str
    setting: str
    unit: str
    device: torch.device | None = None


@dataclass(frozen=True)
class Times:
    """Seconds of every round, by name."""

    of: Mapping[str, list[float]]

    def ratios(self, name: str, reference: str) -> list[float]:
        """The reference's time over the named one's, round by round: how many times faster."""
        return [slow / fast for slow, fast in zip(self.of[reference], self.of[name], strict=True)]

    def beside(self, name: str, found: list[float]) -> Times:
        """The same with what was timed otherwise in the same rounds."""
        return Times({**self.of, name: found})


def alternate(
    benchmark: BenchmarkFixture, case: Case, work: Mapping[str, Work], rounds: int, warm_up: bool = True
) -> Times:
    """Time all of the work in turns, `rounds` times; the last entry is what pytest-benchmark itself tabulates.

    warm_up: run everything once before, unmeasured.
    """
    *others, (name, own) = work.items()
    found: dict[str, list[float]] = {each: [] for each in work}
    if warm_up:
        for each in work.values():
            each()

    def before() -> None:
        for other, run in others:
            found[other].append(seconds(run, case.device))

    benchmark.group = case.subject
    benchmark.pedantic(lambda: found[name].append(seconds(own, case.device)), setup=before, rounds=rounds, iterations=1)
    return Times(found)


def record(
    results: Results,
    benchmark: BenchmarkFixture,
    case: Case,
    times: Times,
    name: str,
    reference: str,
    floor: float | None = None,
    note: str = "",
) -> float:
    """Enter the ratio of two names into the results; returns its median. floor: what the median must reach."""
    low, median, high = (float(q) for q in np.quantile(times.ratios(name, reference), (0.25, 0.5, 0.75)))
    own, other = (float(np.median(times.of[each])) for each in (name, reference))
    row = Row(
        case.subject, case.setting, case.unit, name, reference, len(times.of[name]), median, low, high, own, other,
        floor, note, load=os.getloadavg()[0],
    )  # fmt: skip
    benchmark.extra_info[f"{reference} / {name}"] = {"median": median, "quartiles": [low, high], "floor": floor}
    results.add(row)
    return median


def record_seconds(
    results: Results, benchmark: BenchmarkFixture, case: Case, times: Times, name: str, limit: float | None = None
) -> float:
    """Enter seconds that have no reference; returns their median. limit: what it must stay under."""
    low, median, high = (float(q) for q in np.quantile(times.of[name], (0.25, 0.5, 0.75)))
    count = len(times.of[name])
    row = Row(
        case.subject, case.setting, case.unit, name, "", count, None, None, None, median, None, limit,
        low_seconds=low, high_seconds=high, load=os.getloadavg()[0],
    )  # fmt: skip
    results.add(row)
    benchmark.extra_info[name] = {"median_seconds": median, "quartiles": [low, high], "limit": limit}
    return median
