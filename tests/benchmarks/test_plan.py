"""A plan of ten thousand nodes: ten seeds, a switch between seven tickets, nineteen attacks from each of them."""

from __future__ import annotations

from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

from rstbench.plan import plan
from rstbench.spec.load import load_suite
from tests.benchmarks.alternating import Case, alternate, record_seconds
from tests.benchmarks.results import Results
from tests.suites import facts_of

ATTACKS = 19
HEAD = """
schema: 1
name: large
title: Large
seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
matrix: {dataset: [cifar10], network: [preact_resnet18]}
datasets:
  cifar10: {source: cifar10}
networks:
  preact_resnet18: {family: preact_resnet18}
searches:
  rst: {}
defenses:
  r2s: {kind: r2s, search: rst, ratios: [0.03, 0.05, 0.07, 0.10, 0.15, 0.20, 0.30]}
"""


def test_ten_thousand_nodes(benchmark: BenchmarkFixture, results: Results, tmp_path: Path) -> None:
    attacks = "".join(f"  pgd_{i}: {{kind: pgd, epsilon: {i + 1}/255, report_as: pgd_{i}}}\n" for i in range(ATTACKS))
    cells = "".join(f"    - {{defense: r2s, attack: pgd_{i}}}\n" for i in range(ATTACKS))
    path = tmp_path / "large.yaml"
    path.write_text(f"{HEAD}attacks:\n{attacks}table:\n  paper: 3\n  cells:\n{cells}", encoding="utf-8")
    suite = load_suite(path, "paper")
    known = facts_of(suite)
    nodes = len(plan(suite, known).nodes)
    assert 10_000 <= nodes < 12_000
    case = Case("Plan", f"{nodes} nodes", "")
    times = alternate(benchmark, case, {"plan": lambda: plan(suite, known)}, 7)
    assert record_seconds(results, benchmark, case, times, "plan", 2.0) <= 2.0
