"""Shell blocks, command by command: those of rstbench in this process, others as far as a test can."""

from __future__ import annotations

import configparser
import contextlib
import io
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rstbench import cli, pytest_plugin
from rstbench.data.info import INFO
from tests.commands import ROOT
from tests.docs_blocks import substitutes


def commands(text: str) -> list[str]:
    """The commands of a block, those joined by && apart, without comments and continuation lines."""
    lines = text.replace("\\\n", " ").splitlines()
    return [step.strip() for line in lines for step in re.sub(r"(^|\s)#.*$", "", line).split(" && ") if step.strip()]


def run(command: str, folder: Path, names: Mapping[str, Any]) -> str:
    """Run one command as a reader would who is in `folder`; what it printed. Fails where it does.

    names: what the reader has in Python; ENTRY stands for its `entry`.
    """
    if (own := re.match(r"(\.venv/bin/)?pytest (?P<file>\S+)", command)) and (folder / own["file"]).is_file():
        return tests(shlex.split(command)[1:], folder)
    for pattern in substitutes.NOT_RUN:
        if found := re.fullmatch(rf"((?P<variables>\w+=\S+ )*){pattern}", command):
            not_run(command, found)
            return ""
    words, target = _redirected(shlex.split(command))
    assert words[0].removeprefix(".venv/bin/") == "rstbench", f"nothing here can run: {command}"
    asked = [substitutes.WORDS.get(word, word).replace("#ENTRY", f"#{names.get('entry')}") for word in words[1:]]
    output = _rstbench(_globbed(asked, folder), folder)
    if target is not None:
        (folder / target).write_text(output, encoding="utf-8")
    return output


def tests(words: list[str], folder: Path) -> str:
    """Run tests that a page has, in `folder`, with the plug-in; what pytest printed. Fails where they do."""
    told = io.StringIO()
    # Where rstbench is installed pytest finds it by itself, and refuses to have it twice.
    plugin = (
        [] if any(each.value == pytest_plugin.__name__ for each in entry_points(group="pytest11")) else [pytest_plugin]
    )
    options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder), "--import-mode=importlib"]
    with contextlib.chdir(folder), contextlib.redirect_stdout(told):
        code = pytest.main([*words, *options], plugins=plugin)
    assert code == 0, f"pytest {shlex.join(words)} ended with {code}:\n{told.getvalue()}"
    return told.getvalue()


def not_run(command: str, found: re.Match[str]) -> None:
    """Check what can be checked of a command that is not run: environments, extras, data sets, paths."""
    parts = found.groupdict()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if parts.get("extra"):
        assert parts["extra"] in project["optional-dependencies"], command
    ini = configparser.ConfigParser(interpolation=None)
    ini.read(ROOT / "tox.ini", encoding="utf-8")
    for name in (parts.get("env") or "").split(",") if parts.get("env") else []:
        environment = f"testenv:{name}"
        assert ini.has_section(environment), f"no environment of tox: {command}"
        passed = (ini.get(environment, "pass_env", fallback="") + ini.get("testenv", "pass_env")).split()
        for variable in re.findall(r"(\w+)=", parts["variables"] or ""):
            assert any(re.fullmatch(name.replace("*", ".*"), variable) for name in passed), f"{variable}: {command}"
    if "data download" in command:
        assert command.split()[-1] in INFO, command
    for word in shlex.split(command):
        if re.fullmatch(r"(tests|docs|suites|rstbench)/[\w./-]+", word):
            assert (ROOT / word).exists(), f"{word} is not there: {command}"


def _redirected(words: list[str]) -> tuple[list[str], str | None]:
    if len(words) > 2 and words[-2] == ">":
        return words[:-2], words[-1]
    return words, None


def _globbed(words: list[str], folder: Path) -> list[str]:
    found = []
    for word in words:
        matches = sorted(str(path.relative_to(folder)) for path in folder.glob(word)) if "*" in word else []
        found += matches or [word]
    return found


def _rstbench(words: list[str], folder: Path) -> str:
    """Run `rstbench` with these arguments, or what `substitutes` has in its place."""
    line = " ".join(words)
    for start, missing in substitutes.REFUSED.items():
        if line.startswith(start):
            code, output = _main(words, folder)
            assert code == 2 and missing in output, f"{line}\n{output}"
            return output
    for start, others in substitutes.CHANGED.items():
        if line.startswith(start):
            words = [part for word in words for part in others.get(word, word).split(" ")]
    suites = [word for word in words if word.endswith(".yaml")]
    long = words[0] in substitutes.PLANNED and not all(_small(path, words) for path in suites)
    if long or words[0] in substitutes.ALWAYS_PLANNED:
        return _checked(_as_plan(words), folder)
    if words[0] == "run":
        # Not only what runs here: the suite as it is shipped, too.
        shipped = [str(ROOT / word) if (ROOT / word).is_file() else word for word in words]
        _checked(_as_plan(shipped), folder)
    return _checked([*words, *substitutes.OPTIONS.get(words[0], [])], folder)


def _small(path: str, words: list[str]) -> bool:
    name = Path(path).stem
    return name in substitutes.SUITES or (name in substitutes.SHIPPED and "smoke" in words)


def _as_plan(words: list[str]) -> list[str]:
    """`rstbench plan` of what would run: its suites, and the options that both know."""
    kept = [word for word in words[1:] if word.endswith(".yaml")]
    for option, value in pairwise(words):
        if option in ("--profile", "--only", "--seed", "--data-dir", "--store"):
            kept += [option, value]
    return ["plan", *kept]


def _checked(words: list[str], folder: Path) -> str:
    code, output = _main(words, folder)
    line = " ".join(words)
    expected = next((codes for start, codes in substitutes.EXITS.items() if line.startswith(start)), (0,))
    assert code in expected, f"rstbench {shlex.join(words)} ended with {code}:\n{output}"
    return output


def _main(words: list[str], folder: Path) -> tuple[int, str]:
    """Exit code and output of the command line in this process: starting a new one for each takes seconds."""
    told = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    before = sys.argv
    sys.argv = ["rstbench", *words]
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            cli.main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.argv = before
    told.seek(0)
    return code, told.read()
