"""What is done with a block, by the language that it says it holds."""

from __future__ import annotations

import configparser
import contextlib
import io
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from rstbench.spec import find_faults
from tests.commands import ROOT
from tests.docs_blocks import shell, substitutes
from tests.docs_blocks.pages import Block


class Reader:
    """Somebody who reads a page from top to bottom, and does what it says. names: what the reader has in Python."""

    def __init__(self, folder: Path, names: dict[str, Any]) -> None:
        self.folder = folder
        self.names = names
        self.seen = ""

    def follow(self, block: Block) -> None:
        """Do what a block says. Fails, naming the block, where that fails."""
        action = getattr(self, f"_{block.language.strip('{}')}", None)
        assert action is not None, f"{block.where}: nobody knows what to do with a block of {block.language!r}"
        try:
            action(block.text)
        except Exception as error:
            raise AssertionError(f"{block.where}: {type(error).__name__}: {error}") from error

    def _sh(self, text: str) -> None:
        found = shell.commands(text)
        assert found, "no command"
        self.seen = "".join(shell.run(command, self.folder, self.names) for command in found)

    def _python(self, text: str) -> None:
        if re.match(r"def test_", text):
            self._tests(text)
            return
        told = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(told):
            exec(compile(text, "block", "exec"), self.names)
        self.seen = told.getvalue()

    def _tests(self, text: str) -> None:
        """Tests with our plug-in: they write their baselines, and then hold."""
        (self.folder / "tests").mkdir(exist_ok=True)
        (self.folder / "conftest.py").write_text(substitutes.CONFTEST, encoding="utf-8")
        (self.folder / "tests" / "test_robust.py").write_text(text, encoding="utf-8")
        shell.tests(["tests/test_robust.py", "--rstbench-update"], self.folder)
        self.seen = shell.tests(["tests/test_robust.py"], self.folder)

    def _yaml(self, text: str) -> None:
        value = YAML(typ="safe").load(text)
        if "jobs" in value:
            _workflow(value, self.folder)
            return
        suite = value if "schema" in value else {**YAML(typ="safe").load(substitutes.DEFENSES), **value}
        path = self.folder / f"{suite['name']}.yaml"
        if "schema" in value:
            path.write_text(text, encoding="utf-8")
        else:
            with path.open("w", encoding="utf-8") as file:
                YAML(typ="safe").dump(suite, file)
        faults = [fault.render(path.name) for fault in find_faults(path)]
        assert not faults, "\n".join(faults)
        for old, new in substitutes.SUITES.get(suite["name"], []):
            assert old in text, f"{old!r} is no longer in the suite that it is replaced in"
            text = text.replace(old, new)
            path.write_text(text, encoding="utf-8")

    def _text(self, text: str) -> None:
        """A tree of the package, or the output of the block before: the same lines, whatever their numbers."""
        if text.startswith("rstbench/\n"):
            names = re.findall(r"^  (\S+)", text, re.MULTILINE)
            assert names and not [name for name in names if not (ROOT / "rstbench" / name).exists()], names
            return
        printed = {_without_numbers(line) for line in self.seen.splitlines()}
        missing = [line for line in text.splitlines() if line.strip("… .") and _without_numbers(line) not in printed]
        assert not missing, "not printed by the block before:\n" + "\n".join(missing) + f"\nbut:\n{self.seen}"

    def _json(self, text: str) -> None:
        json.loads(text)

    def _toml(self, text: str) -> None:
        tomllib.loads(text)

    def _ini(self, text: str) -> None:
        configparser.ConfigParser(interpolation=None).read_string(text)

    def _toctree(self, text: str) -> None:
        pages = [line for line in text.splitlines() if line and not line.startswith(":")]
        assert pages and not [page for page in pages if not (ROOT / "docs" / f"{page}.md").is_file()], pages


def _without_numbers(line: str) -> str:
    """Numbers, and the lengths of rules and gaps beside them, differ from machine to machine."""
    return " ".join(re.sub(r"[0-9]+(\.[0-9]+)?", "#", re.sub("─+", "─", line)).split())


def _workflow(value: dict[Any, Any], folder: Path) -> None:
    """A workflow of GitHub's: every step uses or runs something, and what it runs of ours can be run."""
    steps = [step for job in value["jobs"].values() for step in job["steps"]]
    assert steps and all("uses" in step or "run" in step for step in steps)
    for step in steps:
        for command in shell.commands(step.get("run", "")):
            if not any(re.fullmatch(pattern, command) for pattern in substitutes.WORKFLOW):
                shell.run(command, folder, {})
