"""A small suite with every kind of panel, and a store that holds what it measures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rstbench.nodes import Node
from rstbench.plan import Plan
from rstbench.store import Store
from tests.report.planned import N, fill, samples
from tests.suites import planned, written

FIGURE = """
schema: 1
name: pictured
title: A small figure
seeds: [0, 1]
matrix: {dataset: [cifar10, cifar100], network: [preact_resnet18]}
datasets: {cifar10: {source: cifar10}, cifar100: {source: cifar100}}
networks: {preact_resnet18: {family: preact_resnet18}}
trainings: {at: {}}
searches: {rst: {}}
defenses:
  dense_at: {kind: dense, training: at}
  rst: {kind: tickets, search: rst, ratios: [0.20, 0.05, 0.60]}
  rtt: {kind: tickets, search: rst, ratios: [0.05, 0.20, 0.60], weights: dense_at}
  r2s: {kind: r2s, search: rst, ratios: [0.05, 0.20]}
attacks:
  clean: {kind: clean}
  pgd20: {kind: pgd, stop: source_fooled}
measures:
  near: {kind: feature_distance, epsilon: "4/255", variant: near}
  far: {kind: feature_distance, epsilon: "8/255", variant: far}
table:
  cells:
    - {defense: dense_at, attack: clean}
    - {defense: dense_at, attack: pgd20}
    - {defense: rst, attack: clean}
    - {defense: rst, attack: pgd20}
    - {defense: rst, attack: pgd20, source: rtt}
    - {defense: rtt, attack: pgd20}
    - {defense: r2s, attack: pgd20}
    - {defense: dense_at, measure: near}
    - {defense: dense_at, measure: far}
figure:
  paper: 3
  columns: 3
  note: A note of the suite.
  panels:
    - kind: lines
      title: (a) lines
      dataset: cifar10
      network: preact_resnet18
      attack: pgd20
      dashed: dense_at
      inset: [0.01, 0.20]
      series:
        - {defense: rst, label: scratch}
        - {defense: rtt, label: trained}
    - kind: lines
      title: (b) natural and robust
      dataset: cifar100
      network: preact_resnet18
      dashed: dense_at
      series:
        - {defense: rst, label: natural, attack: clean}
        - {defense: rst, label: robust, attack: pgd20}
    - kind: heatmap
      title: (c) matrix
      dataset: cifar10
      network: preact_resnet18
      attack: pgd20
      series: [{defense: r2s, label: tickets}]
    - kind: bars
      title: (d) bars
      dataset: cifar10
      network: preact_resnet18
      series:
        - {defense: dense_at, label: dense, measure: near, group: "4/255"}
        - {defense: dense_at, label: dense, measure: far, group: "8/255"}
    - kind: distribution
      title: (e) distribution
      dataset: cifar10
      network: preact_resnet18
      measure: far
      series: [{defense: dense_at, label: dense}]
profiles:
  desk:
    seeds: [0]
  smoke:
    seeds: [0]
    defenses: {rst: {ratios: [0.05]}, rtt: {ratios: [0.05]}}
"""


def pictured(folder: Path, profile: str = "paper", text: str = FIGURE) -> Plan:
    return planned(written(folder, text), profile)


def right_share(plan: Plan) -> dict[str, int]:
    """Images of `N` that each prediction gets right: 10 of the dense network, of a ticket more with its ratio."""
    found: dict[str, int] = {}
    for cell in plan.cells:
        for position, seed in enumerate(cell.predictions):
            for s, row in enumerate(seed):
                for m, key in enumerate(row):
                    label = cell.members[m]
                    count = 10 if label == "dense" else 12 + round(20 * float(label))
                    count += 4 * position + (6 if cell.attack_key == "clean" else 0) + (8 if s != m else 0)
                    # A transfer judges the same networks on other images.
                    found.setdefault(key, count if not cell.columns["attack_source"] else N)
    return found


def stored(folder: Path, plan: Plan, left_out: tuple[str, ...] = ()) -> Store:
    """A store with every value of the plan but those of predict nodes whose title has one of the words `left_out`."""
    counts = right_share(plan)

    def columns(node: Node) -> dict[str, np.ndarray] | None:
        if node.kind == "predict" and any(word in node.title for word in left_out):
            return None
        return samples(np.arange(N) < counts.get(node.key, N))

    return fill(plan, Store(folder / "store"), columns)
