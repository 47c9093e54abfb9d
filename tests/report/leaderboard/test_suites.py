"""What a store remembers of what was run on it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from rstbench.errors import StoreError
from rstbench.report.leaderboard.suites import FOLDER, file_name, remember, remembered
from rstbench.store import Store
from tests.report.leaderboard.stored import planned
from tests.suites import SHIPPED
from tests.suites import planned as shipped


def stored(folder: Path) -> Store:
    store = Store(folder / "store")
    store.prepare()
    return store


@pytest.mark.parametrize("name", ["table3_r2s", "table9_r2s_rtt", "battery", "controls", "figure7_transfer"])
@pytest.mark.parametrize("profile", ["paper", "smoke"])
def test_a_suite_is_planned_again_as_it_was(tmp_path: Path, name: str, profile: str) -> None:
    (path,) = [each for each in SHIPPED if each.stem == name]
    plan, store = shipped(path, profile), stored(tmp_path)
    for _ in range(2):
        remember(store, plan, Path(f"suites/{name}.yaml"), [], {})
    (ran,) = remembered(store)
    assert ran.plan.suite == plan.suite and ran.plan.cells == plan.cells and ran.plan.nodes == plan.nodes
    assert ran.command == f"rstbench run suites/{name}.yaml --profile {profile}"
    assert remembered(store, "express") == [] and len(remembered(store, profile)) == 1


def test_what_was_asked_for_beside_the_suite_is_in_the_command(tmp_path: Path) -> None:
    plan, store = planned(tmp_path), stored(tmp_path)
    remember(store, plan, Path("small.yaml"), [4, 5], {"attack": "none"})
    (ran,) = remembered(store)
    assert ran.command == "rstbench run small.yaml --profile desk --seed 4 --seed 5 --only attack=none"
    assert len(ran.plan.cells) < len(plan.cells)
    made = replace(ran, file="")
    assert made.command == "suite stored, which rstbench made"


def test_files_are_named_without_the_disk_they_lie_on() -> None:
    assert file_name(Path("suites/a.yaml")) == "suites/a.yaml"
    assert file_name(Path("/home/me/secret/a.yaml")) == file_name(Path("../secret/a.yaml")) == "a.yaml"


def test_notes_that_are_damaged_or_not_understood_are_refused(tmp_path: Path) -> None:
    plan, store = planned(tmp_path), stored(tmp_path)
    remember(store, plan, Path("small.yaml"), [], {})
    (path,) = (store.root / FOLDER).glob("*.json")
    text = path.read_text()
    path.write_text(text.replace("small.yaml", "other.yaml"))
    with pytest.raises(StoreError, match="damaged"):
        remembered(store)
    path.unlink()
    note = json.loads(text)
    for changes, words in (
        ({"format": 2}, "format 2"),
        ({"suite": {**note["suite"], "more": 1}}, "does not understand"),
        ({"facts": []}, "does not understand"),
    ):
        data = json.dumps({**note, **changes}).encode()
        other = path.with_name(f"{hashlib.sha256(data).hexdigest()}.json")
        other.write_bytes(data)
        with pytest.raises(StoreError, match=words):
            remembered(store)
        other.unlink()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    plan, store = planned(tmp_path), stored(tmp_path)
    store.root.chmod(0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        remember(store, plan, Path("small.yaml"), [], {})
    store.root.chmod(0o700)
