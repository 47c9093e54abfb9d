from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from rstbench.data.remembered import DataFacts
from rstbench.errors import SpecError
from rstbench.plan import Plan, plan
from rstbench.report.claims.judge import Where, judge
from rstbench.report.claims.readings import Planned
from rstbench.report.setting import data_of, require_one_setting
from rstbench.report.table import tidy
from rstbench.spec.load import load_suite
from rstbench.store import Store
from tests.report.planned import SUITE, small_plan

STORAGE = """
schema: 1
name: storage
title: Bytes of several tasks
seeds: [0, 1]
matrix: {dataset: [cifar10, svhn], network: [preact_resnet18]}
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
  dense: {kind: dense, training: at}
  rtt: {kind: ticket, ratio: 0.2, search: rst, weights: dense, weights_dataset: svhn}
attacks:
  clean: {kind: clean}
measures:
  files: {kind: bytes}
  all: {kind: bytes, over: [cifar10, svhn]}
  parameters: {kind: parameters}
table:
  cells:
    - {defense: rtt, attack: clean}
    - {defense: rtt, measure: files}
    - {defense: dense, measure: all, dataset: cifar10}
    - {defense: dense, measure: parameters}
"""


def planned(folder: Path, text: str, prints: Mapping[str, str], profile: str = "paper") -> Plan:
    """A plan whose data have these fingerprints, by source."""
    path = folder / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    suite = load_suite(path, profile)
    facts = {
        spec: DataFacts(prints[spec.source] * 64, 10, 3, 32, 50_000, 10_000, (), (0.5,) * 3, (0.5,) * 3)
        for spec in suite.run.datasets.values()
    }
    return plan(suite, facts)


def test_one_plan_is_one_setting(tmp_path: Path) -> None:
    made = planned(tmp_path, STORAGE, {"cifar10": "a", "svhn": "b"})
    require_one_setting([made, made])
    by_row = {(c.columns["defense"], c.columns["metric"], c.columns["dataset"]): c for c in made.cells}
    # What the network was trained on before is no setting of its row.
    assert data_of(by_row["rtt", "natural_acc", "cifar10"], made.nodes) == (("a" * 64,),)
    assert data_of(by_row["rtt", "bytes", "cifar10"], made.nodes) == (("a" * 64,),)
    assert data_of(by_row["dense", "bytes", "cifar10 svhn"], made.nodes) == (("a" * 64, "b" * 64),)
    assert data_of(by_row["dense", "params_m", "cifar10"], made.nodes) == ()


def test_other_images_under_the_same_name_are_refused(tmp_path: Path) -> None:
    one, other = (planned(tmp_path, STORAGE, {"cifar10": print_, "svhn": "b"}) for print_ in "ac")
    message = r"data set cifar10 stands for different images: .*storage \(fingerprint a{12}\) and .*c{12}.* same data"
    with pytest.raises(SpecError, match=message):
        require_one_setting([one, other])
    # A table put together from both, too.
    merged = replace(one, nodes={**one.nodes, **other.nodes}, cells=(one.cells[0], other.cells[2]))
    with pytest.raises(SpecError, match="stands for different images"):
        tidy(merged, Store(tmp_path / "store"))


def test_one_cell_of_two_data_is_refused(tmp_path: Path) -> None:
    one, other = (planned(tmp_path, STORAGE, {"cifar10": print_, "svhn": "b"}) for print_ in "ac")
    first, second = one.cells[0].predictions[0], other.cells[0].predictions[1]
    cell = replace(one.cells[0], predictions=(first, second))
    with pytest.raises(SpecError, match="stands for different images"):
        tidy(replace(one, nodes={**one.nodes, **other.nodes}, cells=(cell,)), Store(tmp_path / "store"))


def test_profiles_are_not_shown_together(tmp_path: Path) -> None:
    desk, smoke = small_plan(tmp_path, "desk"), small_plan(tmp_path, "smoke", re.sub("name: small", "name: two", SUITE))
    with pytest.raises(SpecError, match=r"different profiles.*desk \(suite small\) and smoke \(suite two\)"):
        require_one_setting([desk, smoke])
    path = tmp_path / "small.yaml"
    with pytest.raises(SpecError, match="different profiles"):
        judge((), [Planned(path, desk), Planned(path, smoke)], Store(tmp_path / "store"), Where("desk", "", ""))
    require_one_setting([desk, small_plan(tmp_path, "desk", re.sub("name: small", "name: two", SUITE))])
