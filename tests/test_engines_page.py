"""docs/engines.md: its numbers are those of its file, by its own code, and what it says of them holds."""

from __future__ import annotations

import contextlib
import csv
import io
import statistics
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from tests.docs_blocks.pages import blocks
from tests.suites import planned

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "engines.md"
SUITE = ROOT / "suites" / "engines.yaml"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with (ROOT / "docs" / "engines.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def told() -> list[str]:
    """What the page shows."""
    (text,) = [block.text for block in blocks(PAGE) if block.language == "text"]
    return text.splitlines()


def test_the_page_shows_what_its_code_prints(told: list[str]) -> None:
    (code,) = [block.text for block in blocks(PAGE) if block.language == "python"]
    printed = io.StringIO()
    names: dict[str, Any] = {}
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(printed):
        exec(compile(code, str(PAGE), "exec"), names)
    assert printed.getvalue().splitlines() == told


def test_its_file_has_every_row_of_the_suite_under_five_seeds(rows: list[dict[str, str]]) -> None:
    cells = planned(SUITE, "smoke").cells
    assert len(rows) == 5 * len(cells) and {row["seed"] for row in rows} == set("01234")
    for name in ("defense", "attack", "variant"):
        assert {row[name] for row in rows} == {cell.columns.get(name, "") for cell in cells}
    assert all(row["accuracy"] or row["quantity"] for row in rows)


def test_an_interval_by_hand(rows: list[dict[str, str]], told: list[str]) -> None:
    def of(engine: str) -> list[float]:
        found = [row for row in rows if row["defense"] == engine and row["variant"] == "stop=never"]
        return [float(row["accuracy"]) for row in sorted(found, key=lambda row: row["seed"])]

    apart = [one - other for one, other in zip(of("bf16"), of("fp32"), strict=True)]
    mean, half = statistics.mean(apart), stats.t.ppf(0.975, 4) * statistics.stdev(apart) / 5**0.5
    begin = next(number for number, line in enumerate(told) if "stop=never" in line)
    (line,) = [line for line in told[begin : begin + 6] if line.split()[0] == "bf16"]
    assert f"{mean:+6.2f} [{mean - half:+6.2f}, {mean + half:+6.2f}]" in line


def test_what_it_says_of_the_numbers(rows: list[dict[str, str]], told: list[str]) -> None:
    intervals = [line.rpartition("[")[2].strip("] ").split(",") for line in told if "[" in line]
    assert len(intervals) == 12 and all(float(low) < 0 < float(high) for low, high in intervals)
    assert all(float(low) > -9 and float(low) < -2 for low, _ in intervals)
    overlaps = [float(row["quantity"]) for row in rows if row["quantity"]]
    shared = statistics.mean(overlaps)
    words = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"{shared:.2f} in the mean" in words and f"about {2 * shared / (1 + shared):.0%}".replace("%", " %") in words
