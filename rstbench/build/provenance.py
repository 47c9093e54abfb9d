"""Versions and hardware behind a value."""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib.metadata import version

import torch

from rstbench import __version__
from rstbench.estimate.machine import processor


@lru_cache(maxsize=4)
def provenance(device: torch.device) -> dict[str, str]:
    """Versions and hardware behind a value: shown beside results, never part of a key."""
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    packages = {name: version(name) for name in ("torch", "torchvision", "numpy")}
    return {"rstbench": __version__, "python": platform.python_version(), "hardware": hardware, **packages}
