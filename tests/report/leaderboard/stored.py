"""A store that a suite could have left: predictions by hand, records and keys as builders write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from rstbench.plan import Node, Plan
from rstbench.report.leaderboard.build import Built, boards, write_boards
from rstbench.report.leaderboard.suites import Ran
from rstbench.report.parts import NETWORKS
from rstbench.store import Store
from tests.report.planned import SUITE, parquet, small_plan
from tests.suites import changed

N = 240
BASE = changed(
    SUITE,
    ("seeds: [0, 1, 2]", "seeds: [0]"),
    ("name: small", "name: stored"),
    ("ratios: [0.05, 0.07, 0.10, 0.15, 0.20, 0.30]", "ratios: [0.05, 0.10, 0.30]"),
    (
        "    - {defense: pair, attack: pgd20}\n    - {defense: pair, attack: eot}\n",
        "    - {defense: r2s, attack: eot}\n",
    ),
    ("  eot: {kind", '  apgd: {kind: apgd, report_as: apgd_ce}\n  far: {kind: pgd, epsilon: "12/255"}\n  eot: {kind'),
    (
        "    - {defense: r2s, attack: pgd20}\n",
        "    - {defense: r2s, attack: clean}\n    - {defense: r2s, attack: pgd20}\n",
    ),
    (
        "    - {defense: r2s, attack: clean}\n",
        "    - {defense: dense_at, attack: apgd}\n    - {defense: r2s, attack: clean}\n",
    ),
)
"""Dense under PGD (paper's rule) and APGD; R2S of three under PGD of both rules and EOT."""

PROVENANCE = {"rstbench": "0.1.0", "python": "3.12.1", "hardware": "a processor", "torch": "2.15.0", "commit": "c" * 40}

Right = Callable[[Node, Mapping[str, Node]], np.ndarray | None]
"""Which of `N` images a predict node has right; None: it is not in the store."""


def share(node: Node, nodes: Mapping[str, Node]) -> np.ndarray:
    """Different for each node, the same in every run: about 90 % of clean images, 40 % of the others."""
    clean = nodes[node.inputs["images"]].kind == "data"
    words = np.random.Generator(np.random.Philox(int(node.key[:16], 16))).random(N)
    return words < (0.9 if clean else 0.4)


def count(fields: Mapping[str, object]) -> tuple[int, int]:
    """In place of the real count: 1 000 parameters, of which the ratio is kept."""
    ratio = fields["remaining_ratio"]
    assert isinstance(ratio, float)
    return 1000, round(1000 * ratio)


def planned(folder: Path, text: str = BASE, profile: str = "desk") -> Plan:
    folder.mkdir(parents=True, exist_ok=True)
    return small_plan(folder, profile, text)


def fill(
    store: Store, plan: Plan, right: Right = share, facts: Callable[[Node], dict[str, object]] = lambda n: {}
) -> None:
    """Write every node of the plan. facts: further entries of its record."""
    store.prepare()
    for key, node in plan.nodes.items():
        record: dict[str, object] = {
            "kind": node.kind,
            "title": node.title,
            "spec": node.spec,
            "inputs": node.inputs,
            "wall_seconds": 2.0,
            "finished": "2026-11-21T23:59:59+00:00",
            "provenance": PROVENANCE,
            **facts(node),
        }
        files = {}
        index, label = np.arange(N) * 3, np.arange(N) % 10
        if node.kind in NETWORKS:
            files = {f"{name}.safetensors": f"{key} {name}".encode() for name in ("best_on_validation", "last")}
        elif node.kind == "craft":
            files["images.safetensors"] = f"images {key}".encode()
            files["samples.parquet"] = parquet(
                {"index": index, "label": label, "linf": np.full(N, 0.03), "l2": np.full(N, 0.5)}
            )
        elif node.kind == "predict":
            good = right(node, plan.nodes)
            if good is None:
                continue
            here = slice(0, len(good))
            wrong = (label[here] + 1) % 10
            files["samples.parquet"] = parquet(
                {"index": index[here], "label": label[here], "prediction": np.where(good, label[here], wrong)}
            )
        store.write(key, record, files)


def ran(plan: Plan) -> Ran:
    return Ran(plan, "suites/stored.yaml", (), {})


def built(folder: Path, text: str = BASE, right: Right = share) -> tuple[Store, Plan, list[Built]]:
    """A filled store, its plan, and the leaderboards of it."""
    plan = planned(folder, text)
    store = Store(folder / "store")
    fill(store, plan, right)
    return store, plan, boards([ran(plan)], store, count)


def written(folder: Path, text: str = BASE, right: Right = share) -> tuple[Store, Path]:
    """A filled store, and the CSV of its only leaderboard."""
    store, _, made = built(folder, text, right)
    (path,) = write_boards(made, folder / "boards")
    return store, path
