"""Suites, plans and stores in which every row has the accuracy that a test gives it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from rstbench.plan import Plan, PlannedCell, plan
from rstbench.report.claims.judge import Finding, Where, judge
from rstbench.report.claims.language import Claim, Pick, Statement
from rstbench.report.claims.readings import Planned
from rstbench.spec.load import load_suite
from rstbench.store import Store
from tests.report.planned import parquet
from tests.suites import facts_of

SUITE = """
schema: 1
name: NAME
title: Rows for claims
seeds: [0, 1, 2]
matrix: {dataset: [cifar10, cifar100], network: [preact_resnet18]}
datasets:
  cifar10: {source: cifar10}
  cifar100: {source: cifar100}
networks:
  preact_resnet18: {family: preact_resnet18}
trainings:
  at: {}
searches:
  at: {}
defenses:
  dense_at: {kind: dense, training: at}
  rst: {kind: tickets, ratios: [0.05, 0.10, 0.20], search: at}
  r2s: {kind: r2s, ratios: [0.05, 0.10], search: at}
attacks:
  clean: {kind: clean}
  pgd20: {kind: pgd, stop: source_fooled}
  pgd20_never: {kind: pgd, report_as: pgd20, variant: "stop=never"}
  eot: {kind: pgd, report_as: eot_pgd20, view: eot}
measures:
  parameters: {kind: parameters}
  distance: {kind: feature_distance}
table:
  cells:
    - {defense: dense_at, attack: clean}
    - {defense: dense_at, attack: pgd20}
    - {defense: rst, attack: pgd20}
    - {defense: r2s, attack: pgd20}
    - {defense: r2s, attack: pgd20_never}
    - {defense: r2s, attack: eot}
    - {defense: dense_at, measure: parameters}
    - {defense: rst, measure: parameters}
    - {defense: dense_at, measure: distance}
    - {defense: rst, measure: distance}
profiles:
  express:
    defenses: {rst: {ratios: [0.05, 0.20]}}
  desk:
    seeds: [0]
    searches: {at: {epochs: 6}}
    trainings: {at: {epochs: 6}}
  smoke:
    datasets: {cifar10: {source: digits}, cifar100: {source: digits20}}
"""

N = 400
C10, RN18 = "cifar10", "preact_resnet18"

Rate = Callable[[PlannedCell, int], float | None]
"""Accuracy in percent (or value) of a cell under its seed number; None: not in the store."""


def suite(folder: Path, name: str = "figure1_rows", profile: str = "paper", text: str = SUITE) -> Planned:
    path = folder / f"{name}.yaml"
    path.write_text(text.replace("NAME", name), encoding="utf-8")
    loaded = load_suite(path, profile)
    return Planned(path, plan(loaded, facts_of(loaded)))


def plan_of(planned: Planned) -> Plan:
    assert planned.plan is not None
    return planned.plan


def by_row(planned: Planned, **columns: str) -> PlannedCell:
    """The one cell with these columns; `variant` is the paper's unless given."""
    wanted = {"variant": "", **columns}
    (cell,) = [c for c in plan_of(planned).cells if all(c.columns[name] == text for name, text in wanted.items())]
    return cell


def fill(store: Store, planned: Planned, rate: Rate, n: int = N, first: int = 0, flags: tuple[str, ...] = ()) -> Store:
    """Give every row its accuracy: of n images (numbered from `first`), the first ones are right.

    So better rows are right wherever worse ones are, which is what pairing by image makes use of. The diagonal of a
    switch is 20 points lower. flags: of every prediction.
    """
    store.prepare()
    for cell in plan_of(planned).cells:
        for position in range(len(cell.seeds)):
            wanted = rate(cell, position)
            if wanted is None:
                continue
            for i, row in enumerate(cell.predictions[position] if cell.predictions else ()):
                for j, key in enumerate(row):
                    lower = 20.0 if len(row) > 1 and len(cell.sources) > 1 and i == j else 0.0
                    _write(store, key, "predict", images(wanted - lower, n, first), flags=list(flags))
            if cell.values:
                distance = cell.columns["metric"] == "feature_distance"
                files = {"index": np.arange(first, first + n), "value": np.full(n, wanted)} if distance else None
                _write(store, cell.values[position], "measure", files, value=wanted)
    return store


def images(percent: float, n: int, first: int) -> dict[str, np.ndarray]:
    label = np.arange(n) % 10
    right = np.arange(n) < round(percent / 100 * n)
    return {
        "index": np.arange(first, first + n),
        "label": label,
        "prediction": np.where(right, label, (label + 1) % 10),
    }


def _write(store: Store, key: str, kind: str, columns: dict[str, np.ndarray] | None, **facts: object) -> None:
    if not store.has(key):
        store.write(key, {"kind": kind, **facts}, {} if columns is None else {"samples.parquet": parquet(columns)})


def claim(*statements: Statement, **changes: object) -> Claim:
    fields = {
        "id": "one", "section": "4", "words": "one is better", "kind": "ordering", "suites": ("figure1_",)
    } | changes  # fmt: skip
    return Claim(statements=statements, **fields)  # type: ignore[arg-type]


def row(defense: str = "rst", ratio: str = "0.05", **columns: object) -> Pick:
    return Pick(C10, RN18, defense, ratio, **columns)  # type: ignore[arg-type]


DENSE = row("dense_at", "")


def found(claims: Claim, store: Store, *suites: Planned, profile: str = "paper") -> Finding:
    (finding,) = judge([claims], suites, store, Where(profile, str(store.root), "suites"))
    return finding
