from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rstbench.compat import import_robustbench
from rstbench.errors import StoreError
from rstbench.nodes import Node
from rstbench.plan import Plan
from rstbench.report.robustbench import model_info, write_model_info
from rstbench.store import Store
from tests.report.battery_suite import BATTERY_SUITE
from tests.report.planned import N, fill, samples, small_plan

RIGHT = {"clean": 32, "fgsm": 30, "pgd": 22, "autoattack": 20, "square": 25, "cw_l2": 0}
"""Attack -> images that stay right, of 40."""


def stored(
    tmp_path: Path, text: str = BATTERY_SUITE, right: dict[str, int] = RIGHT, profile: str = "paper"
) -> tuple[Plan, Store]:
    plan = small_plan(tmp_path, profile, text)

    def columns(node: Node) -> dict[str, np.ndarray]:
        if node.kind == "craft":
            return {"index": np.arange(N) * 3, "label": np.arange(N), "linf": np.zeros(N), "l2": np.zeros(N)}
        images = plan.nodes[node.inputs["images"]]
        kind = images.spec["attack"]["kind"] if images.kind == "craft" else "clean"
        return samples(np.arange(N) < right[kind])

    return plan, fill(plan, Store(tmp_path / "store"), columns)


def test_what_was_measured_and_nothing_else(tmp_path: Path) -> None:
    ticket, switch = model_info(*stored(tmp_path))
    assert ticket == {
        "link": "",
        "name": "rst 0.10, seed 0",
        "authors": "",
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": "cifar10",
        "venue": "",
        "architecture": "preact_resnet18",
        "eps": "8/255",
        "clean_acc": "80.00",
        "reported": "",
        "autoattack_acc": "50.00",
        "unreliable": False,
        "footnote": "40 test images",
    }
    assert switch["unreliable"] is True
    assert "outside RobustBench's rules: not deterministic, one of 3 networks" in switch["footnote"]


def test_a_lower_accuracy_under_the_same_threat_is_external(tmp_path: Path) -> None:
    # CW-L2 leaves nothing, but nothing bounds its images.
    ticket = model_info(*stored(tmp_path, right=RIGHT | {"square": 18, "pgd": 19}))[0]
    assert (ticket["autoattack_acc"], ticket["external"]) == ("50.00", "45.00")
    assert "external: square" in ticket["footnote"]
    assert ticket["unreliable"] is True  # Square beats PGD, and AutoAttack is out of order


def test_reduced_settings_and_substitutes_are_said(tmp_path: Path) -> None:
    text = BATTERY_SUITE.replace("autoattack: {kind: autoattack}", "autoattack: {kind: autoattack, steps: 10}")
    ticket = model_info(*stored(tmp_path, text))[0]
    assert "AutoAttack with steps 10 in place of 100" in ticket["footnote"]
    assert "profile" not in ticket["footnote"]
    text = BATTERY_SUITE + 'profiles:\n  desk:\n    attacks: {autoattack: {epsilon: "16/255"}}\n'
    (tmp_path / "desk").mkdir()
    ticket = model_info(*stored(tmp_path / "desk", text, profile="desk"))[0]
    assert ticket["eps"] == "16/255"
    assert "profile desk, which is not the suite's own setting (attack)" in ticket["footnote"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("autoattack: {kind: autoattack}", "autoattack: {kind: autoattack, version: rand}"),
        ("    - {defense: rst, attack: clean}\n", ""),
        ("    - {defense: rst, attack: autoattack}\n", ""),
        # AutoAttack on images that were not measured without attack.
        ("clean: {kind: clean, report_as: none}", "clean: {kind: clean, report_as: none, samples: 10}"),
    ],
)
def test_no_entry_without_both_accuracies(tmp_path: Path, before: str, after: str) -> None:
    plan, store = stored(tmp_path, BATTERY_SUITE.replace(before, after))
    if "samples" in after:
        store = Store(tmp_path / "other")
        few = samples(np.ones(N, dtype=bool))
        few = {name: column[:10] for name, column in few.items()}
        fill(plan, store, lambda node: few if _is_the_clean_cell(node) else _crafted_or_right(node))
    assert [info["name"] for info in model_info(plan, store) if info["name"].startswith("rst")] == []


def _is_the_clean_cell(node: Node) -> bool:
    return node.kind == "predict" and node.spec.get("samples") == 10


def _crafted_or_right(node: Node) -> dict[str, np.ndarray]:
    columns = samples(np.ones(N, dtype=bool))
    return columns if node.kind == "predict" else columns | {"linf": np.zeros(N), "l2": np.zeros(N)}


def test_robustbench_reads_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    paths = write_model_info(*stored(tmp_path), tmp_path / "out")
    names = ["rst-0.10_preact_resnet18_eps8-255_seed0.json", "r2s-0.05-0.10-0.20_preact_resnet18_eps8-255_seed0.json"]
    folder = tmp_path / "out" / "model_info" / "cifar10" / "Linf"
    assert [path.relative_to(folder).as_posix() for path in paths] == names
    assert json.loads(paths[0].read_text())["clean_acc"] == "80.00"
    package = import_robustbench()
    monkeypatch.chdir(tmp_path / "out")  # its functions read ./model_info
    rows = package.utils.get_leaderboard_latex("cifar10", "Linf", sort_by="autoattack_acc").splitlines()
    assert len(rows) == 2
    assert any("80.00 & 50.00 & N & preact_resnet18" in row for row in rows)
    models = package.utils.all_models[package.utils.BenchmarkDataset("cifar10")][package.utils.ThreatModel("Linf")]
    monkeypatch.setitem(models, paths[0].stem, {})
    capsys.readouterr()
    package.utils.list_available_models("cifar10", "Linf")
    shown = capsys.readouterr().out
    assert "rst 0.10, seed 0" in shown
    assert "80.00%" in shown
    assert "50.00%" in shown
    assert "Unpublished" in shown


def test_a_folder_that_cannot_be_written_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="results cannot be written to"):
        write_model_info(*stored(tmp_path), tmp_path / "file")
