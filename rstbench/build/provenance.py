"""Versions and hardware behind a value."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import torch

from rstbench import __version__
from rstbench.estimate.machine import processor


@lru_cache(maxsize=4)
def provenance(device: torch.device) -> dict[str, str]:
    """Versions and hardware behind a value: shown beside results, never part of a key."""
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    packages = {name: version(name) for name in ("torch", "torchvision", "numpy")}
    return {"rstbench": __version__, "python": platform.python_version(), "hardware": hardware, **packages}


@lru_cache(maxsize=1)
def revision() -> dict[str, str]:
    """`commit`: which one of rstbench, where it runs from a checkout.

    Of records only, and not of files of networks: the same network of another commit is the same file.
    """
    found = commit(Path(__file__).parents[2])
    return {"commit": found} if found else {}


def commit(root: Path) -> str:
    """The revision of the checkout whose top is `root`, "-dirty" behind it if files were changed; else empty.

    Empty too without git, and for an installed package, even where it lies below a checkout of something else.
    """
    try:
        top = _git(root, "rev-parse", "--show-toplevel")
        # No tags: a full hash says more than how far it is from one.
        return _git(root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") if Path(top) == root else ""
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()
