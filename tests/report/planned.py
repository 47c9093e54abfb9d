"""A small suite, its plan, and hand-written store values."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from rstbench.data.remembered import DataFacts
from rstbench.plan import Node, Plan, plan
from rstbench.report.parts import NETWORKS
from rstbench.spec.load import load_suite
from rstbench.store import Store

SUITE = """
schema: 1
name: small
title: Random switch | small
seeds: [0, 1, 2]
matrix:
  dataset: [cifar10]
  network: [preact_resnet18]
datasets:
  cifar10: {source: cifar10}
networks:
  preact_resnet18: {family: preact_resnet18}
trainings:
  at: {}
searches:
  rst: {}
defenses:
  dense_at: {kind: dense, training: at}
  r2s: {kind: r2s, search: rst, ratios: [0.05, 0.07, 0.10, 0.15, 0.20, 0.30]}
  pair: {kind: r2s, search: rst, ratios: [0.05, 0.10], probabilities: [0.25, 0.75]}
attacks:
  clean: {kind: clean, report_as: none}
  pgd20: {kind: pgd, stop: source_fooled}
  pgd20_never: {kind: pgd, report_as: pgd20, variant: never stops, headline: true}
  eot: {kind: pgd, report_as: eot_pgd20, view: eot}
table:
  paper: 3
  cells:
    - {defense: dense_at, attack: clean}
    - {defense: dense_at, attack: pgd20}
    - {defense: r2s, attack: pgd20}
    - {defense: r2s, attack: pgd20_never}
    - {defense: pair, attack: pgd20}
    - {defense: pair, attack: eot}
profiles:
  desk:
    seeds: [0]
    searches: {rst: {epochs: 6}}
  smoke:
    seeds: [0]
    datasets: {cifar10: {source: digits}}
    networks: {preact_resnet18: {family: preact_resnet10, width: 0.25}}
"""

Fill = Callable[[Node], Mapping[str, np.ndarray] | None]
"""Per-sample columns of a node; None: leave it out of the store."""


def small_plan(folder: Path, profile: str = "desk", text: str = SUITE) -> Plan:
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    suite = load_suite(path, profile)
    facts = {
        spec: DataFacts("0" * 64, 10, 3, 32, 50_000, 10_000, (), (0.5,) * 3, (0.5,) * 3)
        for spec in suite.run.datasets.values()
    }
    return plan(suite, facts)


def parquet(columns: Mapping[str, np.ndarray]) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(dict(columns)), sink)
    return sink.getvalue()


N = 40


def samples(right: np.ndarray) -> dict[str, np.ndarray]:
    """Predictions of labels 0..9, right where `right`."""
    index = np.arange(len(right)) * 3
    label = np.arange(len(right)) % 10
    return {"index": index, "label": label, "prediction": np.where(right, label, (label + 1) % 10)}


def by_key(node: Node) -> dict[str, np.ndarray]:
    """Predictions that differ between nodes and are the same in every run."""
    if node.kind == "craft":
        linf = np.full(N, 8 / 255, dtype=np.float32)
        return {"index": np.arange(N) * 3, "label": np.arange(N) % 10, "linf": linf, "l2": np.full(N, 0.5)}
    words = np.frombuffer(bytes.fromhex(node.key), dtype=np.uint8)
    return samples(np.resize(words, N) % 5 < 3)


def distances(node: Node) -> np.ndarray:
    """Feature distances that differ between nodes and are the same in every run."""
    return np.linspace(0.1, 0.2, N) + node.key.encode()[0] / 1000


def fill(
    plan: Plan,
    store: Store,
    columns: Fill = by_key,
    notes: tuple[str, ...] = (),
    facts: Callable[[Node], Mapping[str, object]] = lambda node: {},
) -> Store:
    """Write a value for every node. facts: further entries of its record."""
    store.prepare()
    for key, node in plan.nodes.items():
        record: dict[str, object] = {"kind": node.kind, "wall_seconds": 2.0, "attack_seconds": 2.0, **facts(node)}
        files = {}
        if node.kind == "data":
            record["notes"] = list(notes)
        elif node.kind in NETWORKS:
            record["outcome"] = {"best_epoch": 5, "best_validation_accuracy": 41.5, "history": []}
        elif node.kind == "measure":
            record["value"] = 11_689_512 / 1e6
            if node.spec["measure"]["kind"] == "feature_distance":
                images = distances(node)
                record["value"] = float(images.mean())
                files["samples.parquet"] = parquet({"index": np.arange(N) * 3, "value": images})
            elif node.spec["measure"]["kind"] == "bytes":
                record["value"] = 1_234_567
            record |= facts(node)
        else:
            found = columns(node)
            if found is None:
                continue
            files["samples.parquet"] = parquet(found)
        store.write(key, record, files)
    return store
