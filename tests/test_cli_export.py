"""`rstbench export`: what RobustBench reads, from what a suite has left in the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rstbench.store import STORE_ENV
from tests.commands import rstbench
from tests.test_cli_model import PLUGIN

SUITE = """
schema: 1
name: mine
title: A network of a plug-in
seeds: [0]
matrix: {network: [external], dataset: [digits]}
datasets:
  digits: {source: digits}
networks:
  external: {family: external}
defenses:
  mine: {kind: model, source: plugin, name: mine}
attacks:
  clean: {kind: clean}
  autoattack: {kind: autoattack, epsilon: "2/255", steps: 1, square_queries: 5, samples: 16}
table:
  cells:
    - {defense: mine, attack: clean}
    - {defense: mine, attack: autoattack}
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(STORE_ENV, raising=False)
    monkeypatch.delenv("RSTBENCH_DATA", raising=False)


def test_what_is_stored_is_exported_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "my_networks.py").write_text(PLUGIN)
    (tmp_path / "mine.yaml").write_text(SUITE)
    common = ("mine.yaml", "--store", "store", "--plugin", "my_networks")
    done = rstbench("export", *common, "--out", "out", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout.startswith("nothing to export") and done.stderr == ""
    assert not (tmp_path / "out").exists()

    assert rstbench("run", *common, "--device", "cpu", "--workers", 1, cwd=tmp_path).returncode == 0
    done = rstbench("export", *common, "--out", "out", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = (tmp_path / "out" / "model_info").rglob("*.json")
    assert done.stdout.strip().endswith(path.name)
    info = json.loads(path.read_text(encoding="utf-8"))
    assert info["eps"] == "2/255" and 0 <= float(info["autoattack_acc"]) <= float(info["clean_acc"]) <= 100
