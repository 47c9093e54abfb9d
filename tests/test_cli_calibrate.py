"""`rstbench calibrate` and what `plan` and `run` make of it, as people use them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rstbench.estimate.calibration import FILE
from tests.commands import main
from tests.suites import TINY, changed, written

CLEAN = changed(
    TINY,
    ("    - {defense: dense_at, attack: pgd20}\n", ""),
    ("    - {defense: r2s, attack: clean}\n", ""),
    ("    - {defense: r2s, attack: pgd20}\n", ""),
    ("    - {defense: r2s, attack: eot}\n", ""),
    ("  r2s: {kind: r2s, search: rst, ratios: [0.1, 0.3]}\n", ""),
    ('  pgd20: {kind: pgd, epsilon: "24/255", steps: 2, samples: 50, stop: source_fooled}\n', ""),
)
CLEAN = "\n".join(line for line in CLEAN.splitlines() if not line.strip().startswith("eot:"))


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rstbench.build.calibrate._started", lambda: None)


def test_calibrate_then_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    suite = written(tmp_path, CLEAN)
    assert main(monkeypatch, "calibrate", suite, "--store", "here", "--device", "cpu", "--seconds", "0.005") == 0
    out = capfd.readouterr().out
    kept = json.loads((Path("here") / FILE).read_text())
    assert len(kept["machines"]) == 1 and f"rates: {Path('here') / FILE}" in out
    whats = {rate["what"] for rate in kept["machines"][0]["rates"]}
    assert {"step", "validate", "predict", "worker"} <= whats and "attack" not in whats

    assert main(monkeypatch, "plan", suite, "--store", "here", "--device", "cpu", "--workers", "2", "--compare") == 0
    out = capfd.readouterr().out
    assert "Calibrated on" in out and "with 1 worker" in out and "with 2." in out and "stored nodes ran on" in out
    assert main(monkeypatch, "plan", suite, "--store", "here", "--device", "cpu", "--format", "json") == 0
    read = json.loads(capfd.readouterr().out)
    assert read["wall_seconds"] > 0 and all(node["seconds"] > 0 for node in read["nodes"])

    assert main(monkeypatch, "calibrate", suite, "--store", "here", "--device", "cpu", "--seconds", "0.005") == 0
    again = json.loads((Path("here") / FILE).read_text())
    assert len(again["machines"]) == 1 and len(again["machines"][0]["rates"]) == len(kept["machines"][0]["rates"])


def test_what_this_machine_cannot_do_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    graphs = changed(CLEAN, ("trainings:\n  at:\n", "trainings:\n  at:\n    engine: {compiler: cuda_graphs}\n"))
    command = ("calibrate", written(tmp_path, graphs), "--store", "here", "--device", "cpu", "--seconds", "0.005")
    assert main(monkeypatch, *command) == 0
    out = " ".join(capfd.readouterr().out.split())
    assert "step not measured: engine.compiler: cuda_graphs needs a GPU" in out
    assert "2 of 10 units of work cannot be done on this machine" in out
    rates = json.loads((Path("here") / FILE).read_text())["machines"][0]["rates"]
    assert {rate["what"] for rate in rates} == {
        "clean", "load", "make", "network", "predict", "save", "value", "worker"
    }  # fmt: skip
    assert main(monkeypatch, "plan", command[1], "--store", "here", "--device", "cpu") == 0
    assert "1 of 2 nodes count at the stated rates" in " ".join(capfd.readouterr().out.split())


def test_what_cannot_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    suite = written(tmp_path, changed(CLEAN, ("source: digits", "source: cifar10")))
    assert main(monkeypatch, "calibrate", suite, "--data-dir", tmp_path / "nowhere", "--device", "cpu") == 2
    assert "CIFAR-10 was not found" in capfd.readouterr().err
    assert main(monkeypatch, "calibrate", written(tmp_path, CLEAN), "--device", "nonsense") == 2
    assert "nonsense" in capfd.readouterr().err
