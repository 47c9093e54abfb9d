"""The site: Markdown pages, and the references that are written from the code as the site is built.

`tox -e docs` builds it; `python -m sphinx -W docs results/site` does too.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from command_pages import command_reference  # noqa: E402
from schema_pages import suite_reference  # noqa: E402

import rstbench  # noqa: E402

project = "rstbench"
release = rstbench.__version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 4
nitpicky = True

html_theme = "furo"
html_title = "rstbench"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_static_path: list[str] = []


def _suites() -> str:
    from rstbench.spec import json_schema

    return suite_reference(json_schema())


def _commands() -> str:
    from rstbench.cli import app

    return command_reference(app)


def _flags() -> str:
    from rstbench.spec.flags import RELIABILITY

    return _table("flag", RELIABILITY)


def _leaderboards() -> str:
    """How to read a leaderboard, and its columns: they stand beside the published ones."""
    text = (HERE.parent / "leaderboards" / "README.md").read_text(encoding="utf-8")
    return text[text.index("## How to read it") :]


def _table(name: str, meanings: Mapping[str, str]) -> str:
    rows = (f"| `{key}` | {meaning.replace('|', chr(92) + '|')} |" for key, meaning in meanings.items())
    return "\n".join((f"| {name} | meaning |", "|---|---|", *rows))


GENERATED = {"suite-reference": _suites, "commands": _commands, "attacks": _flags, "leaderboards": _leaderboards}
"""Pages at whose mark the text that is written from the code comes in."""
MARK = "<!-- written from the code when the site is built -->"


def _fill(app: object, page: str, source: list[str]) -> None:
    if page in GENERATED:
        if MARK not in source[0]:
            raise ValueError(f"{page}.md: nowhere to put what is written from the code; it needs the line {MARK}")
        source[0] = source[0].replace(MARK, GENERATED[page]())


def setup(app: object) -> None:
    """Sphinx calls this."""
    app.connect("source-read", _fill)  # type: ignore[attr-defined]
