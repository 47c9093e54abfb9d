"""The pytest plug-in: a fixture `rstbench` with which a project guards its robust accuracy (docs/guard.md).

pytest loads this module in every run where rstbench is installed, whether a test uses it or not. So it imports pytest
and nothing else; what takes time is imported by the methods of the fixture, when a test calls them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rstbench.pytest_plugin.guard import Guard

UPDATED = pytest.StashKey[list[str]]()
"""Baselines that this run has written."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--rstbench-store` and `--rstbench-update`."""
    group = parser.getgroup("rstbench", "robust accuracy (fixture rstbench)")
    group.addoption(
        "--rstbench-store",
        metavar="DIR",
        type=Path,
        help="store of results; default: $RSTBENCH_STORE, or .rstbench in pytest's root directory",
    )
    group.addoption(
        "--rstbench-update", action="store_true", help="write the baselines anew in place of comparing with them"
    )


@pytest.fixture(name="rstbench")
def _rstbench(request: pytest.FixtureRequest) -> Guard:
    """Guard robust accuracy: `rstbench.check(suite)` and `rstbench.evaluate(network, images, labels)`."""
    from rstbench.pytest_plugin.guard import Guard

    return Guard(request)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the baselines that were written: they are to be looked at, and committed."""
    for line in config.stash.get(UPDATED, []):
        terminalreporter.write_line(f"rstbench: {line}")
