"""Suites that tests write down and change, and facts of data sets that need not be there."""

from __future__ import annotations

from pathlib import Path

from rstbench.data.remembered import DataFacts
from rstbench.plan import Plan, plan
from rstbench.spec.load import load_suite
from rstbench.spec.models import DatasetSpec
from rstbench.spec.suite import Suite

SHIPPED = sorted((Path(__file__).parents[1] / "suites").glob("*.yaml"))

TINY = """
schema: 1
name: tiny
title: Two tickets of one small network
seeds: [0]
matrix: {dataset: [cifar10], network: [preact_resnet18]}
datasets:
  cifar10: {source: digits, validation_fraction: 0.05}
networks:
  preact_resnet18: {family: preact_resnet10, width: 0.06}
trainings:
  at:
    epochs: 1
    batch: 256
    lr_schedule: {kind: constant}
    augmentation: {padding: 1, flip: false}
    inner: {kind: fgsm_rs, epsilon: "24/255"}
    validation: {every: 1, steps: 1}
searches:
  rst:
    epochs: 1
    batch: 256
    lr_schedule: {kind: constant}
    augmentation: {padding: 1, flip: false}
    inner: {kind: fgsm_rs, epsilon: "24/255"}
    validation: {every: 1, steps: 1}
defenses:
  dense_at: {kind: dense, training: at}
  r2s: {kind: r2s, search: rst, ratios: [0.1, 0.3]}
attacks:
  clean: {kind: clean}
  pgd20: {kind: pgd, epsilon: "24/255", steps: 2, samples: 50, stop: source_fooled}
  eot: {kind: pgd, epsilon: "24/255", steps: 2, samples: 50, view: eot, report_as: eot_pgd20, variant: adaptive}
table:
  paper: 3
  cells:
    - {defense: dense_at, attack: clean}
    - {defense: dense_at, attack: pgd20}
    - {defense: r2s, attack: clean}
    - {defense: r2s, attack: pgd20}
    - {defense: r2s, attack: eot}
"""
"""All kinds of nodes, on digits, in seconds."""


def changed(text: str, *pairs: tuple[str, str]) -> str:
    """The text with each first string, which must be there, replaced by the second."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def written(folder: Path, text: str = TINY, name: str = "tiny.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def facts_of(suite: Suite) -> dict[DatasetSpec, DataFacts]:
    """Facts for every data set of a suite: sizes as CIFAR's or the digits', fingerprints made up from the name."""
    return {spec: known_facts(spec) for spec in suite.run.datasets.values()}


def known_facts(spec: DatasetSpec) -> DataFacts:
    """Made-up facts of one data set."""
    classes = {"cifar100": 100, "digits20": 20, "imagenet": 1000}.get(spec.source, 10)
    channels, size, train, test = (1, 8, 1438, 359) if spec.source.startswith("digits") else (3, 32, 50_000, 10_000)
    fingerprint = f"{sum(map(ord, spec.source)):064x}"
    return DataFacts(fingerprint, classes, channels, size, train, test, (), (0.5,) * channels, (0.25,) * channels)


def planned(path: Path, profile: str = "paper") -> Plan:
    suite = load_suite(path, profile)
    return plan(suite, facts_of(suite))
