"""What holds for the project as a whole: its metadata, its commands, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, metadata, version
from importlib.resources import files
from pathlib import Path

import pytest

import rstbench

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "advertorch", "robustbench", "pyautoattack"}
WITHOUT_TORCH = ("cli", "images", "nodes", "options", "plan", "report", "report.curves", "report.figures", "session",
                 "session_stored", "spec", "spec.made", "store", "networks.spec")  # fmt: skip


def test_versions_agree() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert rstbench.__version__ == version("rstbench") == declared


def test_extras() -> None:
    assert set(metadata("rstbench").get_all("Provides-Extra") or ()) == {"dev", "page", "ray"}


def test_console_script() -> None:
    (script,) = entry_points(group="console_scripts", name="rstbench")
    assert script.value == "rstbench.cli:main"
    assert callable(script.load())


def test_pytest_plugin() -> None:
    (plugin,) = entry_points(group="pytest11", name="rstbench")
    assert plugin.value == "rstbench.pytest_plugin"
    assert callable(plugin.load().pytest_addoption)


def test_package_data() -> None:
    assert files("rstbench").joinpath("py.typed").is_file()
    table = files("rstbench.report").joinpath("paper_tables.csv").read_text(encoding="utf-8")
    assert len(table.splitlines()) == 1 + 272


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_import_needs_no_torch(module: str) -> None:
    code = f"import sys, rstbench.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert HEAVY.isdisjoint(done.stdout.split())


def test_help() -> None:
    done = subprocess.run([sys.executable, "-m", "rstbench.cli", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for command in ("run", "plan", "eval", "curves", "figure", "validate", "schema", "paper", "ticket", "data"):
        assert command in done.stdout


def test_ci_runs_the_command_of_the_readme() -> None:
    (command,) = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if ".venv/bin/tox" in line]
    assert command.split("'")[1] in (ROOT / "README.md").read_text().splitlines()
