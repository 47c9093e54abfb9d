"""Results as RobustBench's model_info JSON.

Keys and types are those of the files that its leaderboard is made of: accuracies are text in percent, epsilon is text
("8/255", "0.5"), `unreliable` marks an evaluation that cannot be trusted, and `external` holds a robust accuracy by
another evaluation where that is lower than AutoAttack's. RobustBench asks for AutoAttack `standard` on all test images,
and takes deterministic defenses only; an entry that is otherwise says so in its `footnote`.

Only what was measured is written. A key that we know nothing of is left empty, as is `reported`: nobody has claimed a
number for these networks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rstbench.errors import StoreError
from rstbench.plan import Plan, PlannedCell
from rstbench.report.files import write_text
from rstbench.report.layout import defense_label, reliability_flags
from rstbench.report.measure import SeedMeasurement, measure_plan
from rstbench.report.parts import NETWORKS, targets_of
from rstbench.report.reliability import defense_of, keeps_budget
from rstbench.report.table import percent, tidy
from rstbench.spec.attacks import AutoAttackSpec
from rstbench.store import Store

_AUTOATTACK = {"steps": 100, "square_queries": 5000, "eot_queries": 20}
"""The published settings."""


@dataclass(frozen=True)
class Entry:
    """One file: its path below the folder `model_info`, and its content."""

    path: Path
    info: dict[str, Any]


@dataclass(frozen=True)
class _Row:
    """A cell as measured under one seed, and its row of table.csv."""

    cell: PlannedCell
    seed: SeedMeasurement
    record: dict[str, str]


def model_info(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """The entries of a plan: one for each network that was measured without attack and under AutoAttack.

    Each seed is a network of its own, and so is each norm and epsilon an entry. Both accuracies are of the images that
    AutoAttack had. A single network needs AutoAttack `standard`. A random switch is not deterministic, which is outside
    RobustBench's rules: it is exported as unreliable, with the lowest of the suite's AutoAttack variants.
    """
    return [entry.info for entry in entries(plan, store)]


def write_model_info(plan: Plan, store: Store, out: Path) -> tuple[Path, ...]:
    """Write the entries below `out`/model_info, as <dataset>/<Linf or L2>/<name>.json; returns the files.

    RobustBench's own functions read them when called in `out`. Raises `StoreError` if they cannot be written.
    """
    return write_entries(entries(plan, store), out)


def write_entries(found: Iterable[Entry], out: Path) -> tuple[Path, ...]:
    """Write entries below `out`/model_info; returns the files. Raises `StoreError` if they cannot be written."""
    written = []
    for entry in found:
        path = Path(out) / "model_info" / entry.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(entry.info, indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise StoreError(f"results cannot be written to {path.parent} ({error.strerror or error})") from error
        written.append(path)
    return tuple(written)


def entries(plan: Plan, store: Store) -> list[Entry]:
    """The files to write, in the plan's order. Raises `StoreError` if stored predictions are damaged."""
    results = measure_plan(plan, store)
    records = tidy(plan, store, results).to_dict("records")
    defenses: dict[object, list[_Row]] = {}
    for result, record in zip(results, records, strict=True):
        for seed in result.seeds:
            if seed is not None:
                network = (defense_of(result.cell, plan.nodes), seed.seed)
                defenses.setdefault(network, []).append(_Row(result.cell, seed, record))
    return [entry for rows in defenses.values() for entry in _of_network(plan, rows)]


def _of_network(plan: Plan, rows: Sequence[_Row]) -> Iterator[Entry]:
    clean = next((row for row in rows if row.cell.attack_kind == "clean"), None)
    attacked: dict[tuple[str, str], list[_Row]] = {}
    for row in rows:
        spec = plan.suite.run.attacks[row.cell.attack_key]
        if not isinstance(spec, AutoAttackSpec) or row.record["attack_source"]:
            continue
        if spec.version == "standard" or len(row.cell.members) > 1:
            attacked.setdefault((spec.norm, str(spec.epsilon)), []).append(row)
    if clean is None:
        return
    for (norm, epsilon), candidates in attacked.items():
        lowest = min(candidates, key=lambda row: row.seed.accuracy)
        natural = _natural_accuracy(clean, lowest)
        if natural is not None:
            info = _info(plan, natural, lowest, epsilon, _lower(plan, rows, lowest))
            folder = Path(str(info["dataset"]), "Linf" if norm == "linf" else "L2")
            yield Entry(folder / _file_name(lowest, epsilon), info)


def _natural_accuracy(clean: _Row, attacked: _Row) -> float | None:
    """In percent, on the images that were attacked; None if not all of them were measured without attack."""
    _, rows, shared = np.intersect1d(clean.seed.index, attacked.seed.index, assume_unique=True, return_indices=True)
    if len(shared) < len(attacked.seed.index):
        return None
    return 100 * float(clean.seed.scores[rows].mean())


def _lower(plan: Plan, rows: Sequence[_Row], autoattack: _Row) -> _Row | None:
    """The row of the same norm and epsilon with the lowest accuracy below AutoAttack's, on the same images."""
    images = np.sort(autoattack.seed.index)
    below = [
        row
        for row in rows
        if row.cell.score in ("mean", "pointwise")
        and all(row.record[name] == autoattack.record[name] for name in ("norm", "eps", "run_eps"))
        and keeps_budget(row.cell, plan.suite.run.attacks)
        and row.seed.accuracy < autoattack.seed.accuracy - 1e-9
        and np.array_equal(np.sort(row.seed.index), images)
    ]
    return min(below, key=lambda row: row.seed.accuracy) if below else None


def _info(plan: Plan, natural: float, row: _Row, epsilon: str, stronger: _Row | None) -> dict[str, Any]:
    cell = row.cell
    ours = _is_ours(plan, row)
    info: dict[str, Any] = {
        "link": "",
        "name": f"{defense_label(row.record)}, seed {row.seed.seed}",
        "authors": "",
        "additional_data": _other_data(plan, row) if ours else None,
        "number_forward_passes": len(_targets(plan, row)) // len(cell.members) if ours else None,
        "dataset": cell.run["run_dataset"],
        "venue": "",
        "architecture": cell.run["run_network"],
        "eps": epsilon,
        "clean_acc": percent(natural),
        "reported": "",
        "autoattack_acc": percent(row.seed.accuracy),
        "unreliable": len(cell.members) > 1 or bool(reliability_flags(row.record)),
    }
    footnote = list(_remarks(plan, row))
    if stronger is not None:
        info["external"] = percent(stronger.seed.accuracy)
        footnote.append(f"external: {stronger.record['attack']} {stronger.record['variant']}".rstrip())
    return info | {"footnote": "; ".join(footnote)}


def _remarks(plan: Plan, row: _Row) -> Iterator[str]:
    """What sets the evaluation apart from RobustBench's."""
    cell, spec = row.cell, plan.suite.run.attacks[row.cell.attack_key]
    if len(cell.members) > 1:
        variant = f", {row.record['variant']}" if row.record["variant"] else ""
        yield (
            f"outside RobustBench's rules: not deterministic, one of {len(cell.members)} networks is drawn at each "
            f"inference; expected accuracy, under {row.record['attack']}{variant}"
        )
    for name, published in _AUTOATTACK.items():
        if getattr(spec, name) != published:
            yield f"AutoAttack with {name} {getattr(spec, name)} in place of {published}"
    yield f"{len(row.seed.index)} test images"
    flags = reliability_flags(row.record)
    if flags:
        yield f"reliability flags: {', '.join(flags)}"
    if cell.substitutes:
        names = ", ".join(sorted(flag.removeprefix("substitute:") for flag in cell.substitutes))
        yield f"profile {plan.suite.profile}, which is not the suite's own setting ({names})"


def _is_ours(plan: Plan, row: _Row) -> bool:
    """Whether the suite trained or searched it, so that its training data is the data set's own and nothing else."""
    return all(plan.nodes[target].kind in NETWORKS for target in _targets(plan, row))


def _targets(plan: Plan, row: _Row) -> list[str]:
    return [target for key in row.cell.predictions[0][0] for target in targets_of(key, plan.nodes)]


def _other_data(plan: Plan, row: _Row) -> bool:
    """Whether a network was trained on other data too, before (transferred RTTs)."""
    waiting, data = _targets(plan, row), set()
    while waiting:
        node = plan.nodes[waiting.pop()]
        waiting.extend(node.inputs.values())
        data |= {node.key} if node.kind == "data" else set()
    return len(data) > 1


def _file_name(row: _Row, epsilon: str) -> str:
    words = [defense_label(row.record), row.cell.run["run_network"], f"eps{epsilon}", f"seed{row.seed.seed}"]
    return "_".join(re.sub(r"[^A-Za-z0-9._]+", "-", word).strip("-") for word in words) + ".json"
