"""Which machine this is: what decides how fast it computes. No torch."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rstbench.errors import DeviceError

_GPUS = Path("/proc/driver/nvidia/gpus")
_FIRST_GPU = Path("/dev/nvidia0")


@dataclass(frozen=True)
class Machine:
    """What rates belong to. hardware: name of the GPU, or of the processor if `device` is "cpu"."""

    hardware: str
    device: str
    cores: int
    torch: str

    def __str__(self) -> str:
        return f"{self.hardware}, {self.cores} CPU cores, torch {self.torch}"


def this_machine(device: str | None = None) -> Machine:
    """The machine at hand, and what runs on it by default: a GPU where there is one.

    device: "cpu", "cuda" or "cuda:1", as commands take it. The name of a GPU comes from its driver's files, and is
    empty where they say nothing. Raises `DeviceError` for another kind of device.
    """
    kind = "cuda" if _FIRST_GPU.exists() else "cpu"
    if device is not None:
        kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise DeviceError(f"device {device!r} is of no kind that is known here; write cpu, cuda or cuda:1")
    hardware = processor() if kind == "cpu" else _gpu()
    return Machine(hardware, kind, cores(), _version("torch"))


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The CPU's name, as its manufacturer writes it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _gpu() -> str:
    try:
        text = next(iter(sorted(_GPUS.glob("*/information")))).read_text(encoding="utf-8")
        return next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("Model"))
    except (OSError, StopIteration):
        return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
