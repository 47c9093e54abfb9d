"""A browser, and sites made of examples. Without Chromium or the packages that drive it, what needs them is skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rstbench.report.leaderboard.files import json_beside, read_json, write_csv, write_json
from rstbench.session_page import page
from tests.report.leaderboard.examples import example

HOSTILE = "<img src=x onerror=window.pwned=1></script><script>window.pwned=2</script>\"'{{7*7}}"
MANY = 1000


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's Chromium, headless."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the extra dev has playwright")
    pytest.importorskip("itables", reason="the extra page has the table component")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three threat models on two data sets; hostile and flagged entries; a suite that entries name."""
    root = tmp_path_factory.mktemp("site")
    hostile = dict.fromkeys(("name", "network", "flags", "threat_model", "challengers", "adaptive_attack"), HOSTILE)
    changes = {
        0: {"flags": "zero_gradients substitute:network"},
        2: {"challengers": "Eve", "flags": "reduced_budget"},
        3: hostile,
        4: {"name": "=HYPERLINK(0)"},
        6: {"name": "a_name_without_any_place_to_break_" * 4},
    }
    example(root / "boards", entries=8, epsilons=("8/255", "2/255"), n=300, changes=changes)
    example(root / "boards", entries=3, norm="l2", epsilons=("0.5",), n=60, seed=1)
    example(root / "boards", entries=3, dataset="digits", n=60, seed=2)
    (root / "suites").mkdir()
    (root / "suites" / "table3_r2s.yaml").write_text(f"name: r2s  # {HOSTILE}\n", encoding="utf-8")
    return page(root / "boards", root / "out", suites=root / "suites")[0]


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One threat model of a thousand entries."""
    root = tmp_path_factory.mktemp("large")
    path = example(root / "boards", entries=6, n=40)
    board = read_json(json_beside(path))
    entries = []
    for i in range(MANY):
        entry = board.entries[i % 6]
        worst = f"{(i * 7919) % MANY / 20 + 10:.2f}"
        row = entry.row | {"entry": f"{i:012x}", "rank": str(i + 1), "name": f"entry {i}", "worst": worst}
        entries.append(entry.model_copy(update={"row": row}))
    write_csv(path, [entry.row for entry in entries])
    write_json(json_beside(path), board.model_copy(update={"entries": tuple(entries)}))
    return page(root / "boards", root / "out")[0]
