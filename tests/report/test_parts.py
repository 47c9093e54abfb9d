"""Ensembles, switches of any members, and images that were attacked and judged in parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rstbench import nodes as nodes_module
from rstbench.errors import StoreError
from rstbench.nodes import Node
from rstbench.plan import Plan, PlannedCell
from rstbench.report.measure import measure_plan
from rstbench.report.parts import checkpoints_of, fingerprints_behind, images_of, parts_of, targets_of
from rstbench.report.publish import Published, publish
from rstbench.report.reliability import defense_of
from rstbench.report.robustbench import model_info
from rstbench.store import Store
from tests.report.planned import N, fill, parquet, samples, small_plan

MIXED = """
schema: 1
name: mixed
title: Switches and ensembles
seeds: [0]
matrix:
  dataset: [cifar10]
  network: [preact_resnet18]
datasets:
  cifar10: {source: cifar10}
  svhn: {source: svhn}
networks:
  preact_resnet18: {family: preact_resnet18}
trainings:
  at: {}
searches:
  rst: {}
defenses:
  dense_at: {kind: dense, training: at, checkpoint: last}
  rst: {kind: ticket, search: rst, ratio: 0.10}
  rtt: {kind: ticket, search: rst, ratio: 0.20, weights: dense_at, weights_dataset: svhn}
  tuned: {kind: ticket, search: rst, ratio: 0.10, tuning: {training: at, start: inherited}}
  switch: {kind: switch, members: [dense_at, rst, rtt, tuned], probabilities: [0.4, 0.3, 0.2, 0.1]}
  ensemble: {kind: ensemble, of: switch}
attacks:
  clean: {kind: clean, report_as: none}
  pgd20: {kind: pgd}
  autoattack: {kind: autoattack}
  mean_pgd20: {kind: pgd, view: ensemble, report_as: pgd20}
  mean_autoattack: {kind: autoattack, view: ensemble, report_as: autoattack}
table:
  layout: list
  cells:
    - {defense: switch, attack: clean}
    - {defense: switch, attack: pgd20}
    - {defense: ensemble, attack: clean}
    - {defense: ensemble, attack: mean_pgd20}
    - {defense: ensemble, attack: mean_autoattack}
    - {defense: rtt, attack: clean}
    - {defense: rtt, attack: autoattack}
"""
PARTS = 3
SHARES = np.array_split(np.arange(N), PARTS)
"""Rows of each part."""


def rows_of(node: Node) -> np.ndarray:
    part = node.spec.get("part")
    return np.arange(N) if part is None else SHARES[part["index"]]


def columns_of(plan: Plan, node: Node) -> dict[str, np.ndarray]:
    """Predictions and distances of a node that are those of the whole, cut into its part."""
    if node.kind == "join":
        parts = [columns_of(plan, plan.nodes[key]) for key in parts_of(node.key, plan.nodes)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if node.kind == "craft":
        rows = rows_of(node)
        found = {"index": rows * 3, "label": rows % 10, "linf": np.full(len(rows), 8 / 255, dtype=np.float32)}
        return found | {"l2": (rows + 1) / 10, "queries": rows}
    images = plan.nodes[node.inputs["images"]]
    rows = rows_of(node if images.kind == "data" else images)
    whole = samples(np.arange(N) % 5 < (4 if images.kind == "data" else 2))
    return {name: column[rows] for name, column in whole.items()}


def facts(node: Node) -> dict[str, object]:
    if node.kind != "craft":
        return {}
    count = len(rows_of(node))
    return {"passes": {"forward": 21.0 * count, "gradient": 20.0 * count}, "attack_seconds": 1.0}


def written(folder: Path) -> tuple[Plan, Published]:
    folder.mkdir(exist_ok=True)
    plan = small_plan(folder, "paper", MIXED)
    store = fill(plan, Store(folder / "store"), lambda node: columns_of(plan, node), facts=facts)
    return plan, publish(plan, store, folder / "out")


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    # 10 000 test images of 3 x 32 x 32 are 123 MB as float32.
    monkeypatch.setattr(nodes_module, "PART_BYTES", 50_000_000)


def cell(plan: Plan, defense: str, attack: str) -> PlannedCell:
    (found,) = [c for c in plan.cells if c.columns["defense"] == defense and c.columns["attack"] == attack]
    return found


def test_an_ensemble_is_one_network_of_several(tmp_path: Path) -> None:
    plan, published = written(tmp_path)
    ensemble, switch = cell(plan, "ensemble", "none"), cell(plan, "switch", "none")
    (judge,) = ensemble.predictions[0][0]
    members = [targets_of(key, plan.nodes)[0] for key in switch.predictions[0][0]]
    assert list(targets_of(judge, plan.nodes)) == members
    assert checkpoints_of(judge, plan.nodes) == ("last", *["best_on_validation"] * 3)
    details = published.details.set_index(["defense", "attack"])
    assert details.loc[("ensemble", "none"), "network_keys"] == " ".join(key[:12] for key in members)
    for defense in ("switch", "ensemble"):
        shown = details.loc[(defense, "none"), "checkpoint"]
        assert shown == "last best_on_validation best_on_validation best_on_validation"
        assert details.loc[(defense, "none"), "best_epoch"] == "5 5 5 5"
    assert details.loc[("rtt", "none"), "checkpoint"] == "best_on_validation"
    assert details.loc[("ensemble", "pgd20"), "interval"] == "wilson"
    assert details.loc[("switch", "pgd20"), "interval"] == "bootstrap"
    # Two ensembles of one plan that average otherwise, or of other members, are other defenses.
    assert defense_of(ensemble, plan.nodes) != defense_of(switch, plan.nodes)
    assert defense_of(ensemble, plan.nodes) == defense_of(cell(plan, "ensemble", "pgd20"), plan.nodes)
    transfer = published.matrices
    assert transfer["defense"].unique().tolist() == ["switch"]
    assert transfer["member"].unique().tolist() == ["dense_at", "rst", "rtt", "tuned"]
    page = published.table_md.read_text()
    assert "### ensemble on cifar10, preact_resnet18" in page


def test_networks_of_other_data_are_told_in_exports_and_details(tmp_path: Path) -> None:
    plan, published = written(tmp_path)
    entries = {entry["name"]: entry for entry in model_info(plan, Store(tmp_path / "store"))}
    ensemble, rtt = entries["ensemble, seed 0"], entries["rtt 0.20, seed 0"]
    assert ensemble["number_forward_passes"] == 4 and rtt["number_forward_passes"] == 1
    assert ensemble["additional_data"] is rtt["additional_data"] is True
    assert not ensemble["unreliable"]
    # Training, search and fine-tuning behind the row all count.
    seconds = published.details.set_index(["defense", "attack"])["network_seconds"]
    assert seconds[("rtt", "none")] == "4.0" and seconds[("switch", "none")] == "10.0"


def test_parts_are_looked_through(tmp_path: Path, in_parts: None) -> None:
    plan, published = written(tmp_path / "parts")
    assert {node.kind for node in plan.nodes.values()} >= {"join"}
    attacked = cell(plan, "switch", "pgd20")
    key = attacked.predictions[0][0][0]
    assert plan.nodes[key].kind == "join" and len(parts_of(key, plan.nodes)) == PARTS
    assert [plan.nodes[each].kind for each in images_of(key, plan.nodes)] == ["craft"] * PARTS
    assert fingerprints_behind(key, plan.nodes) == ("0" * 64,)
    results = measure_plan(plan, Store(tmp_path / "parts" / "store"))
    assert all(result.n == N for result in results)
    battery = published.battery.set_index(["defense", "attack"])
    row = battery.loc[("switch", "pgd20")]
    l2 = np.arange(1, N + 1) / 10
    assert (row["linf"], row["l2"]) == ("8.000", f"{l2.mean():.4f}")
    assert (row["gradients"], row["forwards"]) == ("20.0", "21.0")
    assert row["seconds"] == f"{4.0 * PARTS:.1f}"
    assert row["fooled"] == "50.00"


def test_parts_say_what_the_whole_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = written(tmp_path / "whole")
    monkeypatch.setattr(nodes_module, "PART_BYTES", 50_000_000)
    _, parts = written(tmp_path / "parts")
    assert whole.frame.equals(parts.frame)
    assert whole.matrices.equals(parts.matrices)
    counted = ["seconds"]  # of wall time there is more
    assert whole.battery.drop(columns=counted).equals(parts.battery.drop(columns=counted))
    same = ["accuracy", "n", "interval", "linf", "l2", "checkpoint", "best_epoch", "network_keys", "data_fingerprint"]
    assert whole.details[same].equals(parts.details[same])


def test_a_part_of_other_images_is_an_error(tmp_path: Path, in_parts: None) -> None:
    plan = small_plan(tmp_path, "paper", MIXED)
    spoilt = images_of(cell(plan, "switch", "pgd20").predictions[0][0][0], plan.nodes)[1]

    def columns(node: Node) -> dict[str, np.ndarray]:
        found = columns_of(plan, node)
        return found | {"index": found["index"] + 1} if node.key == spoilt else found

    store = fill(plan, Store(tmp_path / "store"), columns)
    with pytest.raises(StoreError, match="images are not those of the predictions"):
        publish(plan, store, tmp_path / "out")


def test_a_part_that_is_missing_leaves_its_distances_blank(tmp_path: Path, in_parts: None) -> None:
    plan = small_plan(tmp_path, "paper", MIXED)
    gone = images_of(cell(plan, "switch", "pgd20").predictions[0][0][0], plan.nodes)[1]
    store = fill(plan, Store(tmp_path / "store"), lambda n: None if n.key == gone else columns_of(plan, n))
    battery = publish(plan, store, tmp_path / "out").battery.set_index(["defense", "attack"])
    assert battery.loc[("switch", "pgd20"), ["linf", "fooled"]].tolist() == ["", ""]
    assert battery.loc[("switch", "pgd20"), "accuracy"] == "40.00"
    assert battery.loc[("ensemble", "pgd20"), "linf"] == "8.000"
    assert parquet(columns_of(plan, plan.nodes[gone]))
