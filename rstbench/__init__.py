"""rstbench: search robust scratch tickets, attack them, and publish what holds.

The package is imported lazily by room; nothing heavy is imported here.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("rstbench")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__", "evaluate"]


def __getattr__(name: str) -> Any:
    # `rstbench.evaluate` imports torch, and the commands answer without it.
    if name == "evaluate":
        return import_module("rstbench.api").evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
