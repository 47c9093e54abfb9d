"""A stopwatch for units of work."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

_MOST = 30
"""Repetitions, where one takes next to no time."""


@dataclass
class Stopwatch:
    """Times work on a device. least_s: seconds that a unit is measured for; one that takes longer, once.

    wall, cpu: seconds that were measured so far, and those that this process computed in them. Of work that one CPU
    thread does they are the same, unless others want the CPU too.
    """

    device: torch.device
    least_s: float
    wall: float = 0.0
    cpu: float = 0.0

    def once(self, work: Callable[[], object]) -> float:
        """Seconds that the work takes, until the device is done with it."""
        self._wait()
        started, computed = time.perf_counter(), time.process_time()
        work()
        self._wait()
        seconds = time.perf_counter() - started
        self.wall += seconds
        self.cpu += time.process_time() - computed
        return seconds

    def seconds(self, work: Callable[[], object]) -> float:
        """The median of several times, after one that compiles, allocates and fills caches."""
        self.once(work)
        found: list[float] = []
        while not found or (len(found) < _MOST and sum(found) < self.least_s):
            found.append(self.once(work))
        return median(found)

    def affordable(self, images: int, work: Callable[[int], object], few: int = 2) -> int:
        """As many of the images as a measurement can afford, at least a few; work: does it with so many images."""
        few = min(few, images)
        work(few)
        each = self.once(lambda: work(few)) / max(few, 1)
        return max(few, min(images, int(3 * self.least_s / max(each, 1e-9))))

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
