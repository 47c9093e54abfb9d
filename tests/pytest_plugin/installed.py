"""What loads the plug-in where it is not installed: a checkout that is only on the path has no entry points."""

from __future__ import annotations

from importlib.metadata import entry_points

LOADED = () if entry_points(group="pytest11", name="rstbench") else ("-p", "rstbench.pytest_plugin")
