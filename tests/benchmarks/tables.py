"""From measurements to the tables of docs/performance.md, so that no number is typed by hand.

    python tests/benchmarks/tables.py results/bench.json ...

rewrites what stands between `<!-- bench NAME -->` and `<!-- end NAME -->`, where NAME is the name of the file without
its suffix. Several files of one name are refused, and so is a file for which the page has no place.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":  # a script: the tests' folder is no package that Python would find
    import types

    tests = types.ModuleType("tests")
    tests.__path__ = [str(ROOT / "tests")]
    sys.modules["tests"] = tests

from tests.benchmarks.results import Row, read  # noqa: E402

PAGE = ROOT / "docs" / "performance.md"


def lines(machine: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """The measurements of one machine as Markdown, one table for each subject."""
    made = [_machine(machine)]
    load = max((row.load for row in rows if row.load is not None), default=0.0)
    if load > machine["threads"] + 1:
        made += [
            "",
            f"**Other work ran meanwhile** (load average up to {load:.1f}): ratios are rough, times are not ours.",
        ]
    for subject in dict.fromkeys(row.subject for row in rows):
        own = [row for row in rows if row.subject == subject]
        made += ["", f"**{subject}**", "", "| setting | ours | against | ratio (quartiles) | must hold | time, ours |"]
        made += ["|---|---|---|---:|---:|---:|", *map(_row, own)]
    return made


def _machine(machine: Mapping[str, Any]) -> str:
    return (
        f"{machine['hardware']}, {machine['cores']} cores, {machine['threads']} threads; torch {machine['torch']}, "
        f"Python {machine['python']}"
    )


def _row(row: Row) -> str:
    unit = f" {row.unit}" if row.unit else ""
    ours = f"{row.seconds:.3g} s{unit}"
    held = "" if row.held is None else " ✓" if row.held else " ✗ **missed**"
    if row.ratio is None:
        spread = f"{row.low_seconds:.3g} to {row.high_seconds:.3g} s" if row.low_seconds is not None else ""
        limit = "" if row.floor is None else f"≤ {row.floor:.3g} s{held}"
        return f"| {row.setting} | {_named(row)} |  | {spread} | {limit} | {ours} |"
    ratio = f"{row.ratio:.2f} ({row.low:.2f} to {row.high:.2f}, n = {row.rounds})"
    floor = "" if row.floor is None else f"≥ {row.floor:.2f}{held}"
    return f"| {row.setting} | {_named(row)} | {row.reference} | {ratio} | {floor} | {ours} |"


def _named(row: Row) -> str:
    return f"{row.name}; {row.note}" if row.note else row.name


def rewritten(page: str, name: str, table: Sequence[str]) -> str:
    """The page with the table in its place. Raises `ValueError` if the page has no such place, or several."""
    place = re.compile(rf"(<!-- bench {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
    text = "\n".join(table) + "\n"
    found, count = place.subn(lambda match: f"{match[1]}{text}{match[2]}", page)
    if count != 1:
        raise ValueError(f"the page has {count} places <!-- bench {name} --> ... <!-- end {name} -->; it needs one")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the page; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args(arguments)
    names = [path.stem for path in given.results]
    if len(set(names)) != len(names):
        parser.error("two files of one name")
    page = given.page.read_text(encoding="utf-8")
    for path in given.results:
        try:
            page = rewritten(page, path.stem, lines(*read(path)))
        except ValueError as error:
            parser.error(f"{path}: {error}")
    given.page.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
