"""The command line as people use it: a process of its own, or `main` in this one where that is enough."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rstbench import cli

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "rstbench.cli")


def environment() -> dict[str, str]:
    """Without settings of whoever runs the tests, and with the package on the path wherever the command runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RSTBENCH_")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def rstbench(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment(), timeout=300)


def main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit code of `main` in this process."""
    monkeypatch.setattr(sys, "argv", ["rstbench", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)
