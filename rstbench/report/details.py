"""Beside the table: one row a cell and seed, with times, distances and epochs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rstbench.plan import Node, Plan, PlannedCell
from rstbench.report.crafted import CraftNodes, distance_columns
from rstbench.report.measure import CellResult, Records, keys_behind, measure_plan
from rstbench.report.parts import NETWORKS, checkpoints_of, fingerprints_behind, targets_of
from rstbench.report.quantity import quantity_text
from rstbench.report.table import KEY, key_columns, percent
from rstbench.store import Store

DETAILS = (
    *KEY, "seed", "accuracy", "quantity", "n", "interval", "worst_source", "mixture",
    "linf", "l2", "checkpoint", "best_epoch", "best_validation_accuracy",
    "network_seconds", "attack_seconds", "predict_seconds", "network_keys", "attack_keys", "predict_keys",
    "data_fingerprint", "notes",
)  # fmt: skip
"""The columns of details.csv.

accuracy: of this seed, percent; quantity: of this seed, as in table.csv, where the row is no accuracy. interval: the
kind of the table's interval. worst_source: label of the source that does most damage, where the adversary chose one for
all images. mixture: member probabilities, in order, that the game fitted on held-out images. linf (in units of 1/255)
and l2: mean distances of the images as crafted; of the worst source where one was chosen; blank where the adversary
chooses for each image. best_epoch, best_validation_accuracy (percent) and network_keys: one for each member, in order,
those of a deterministic ensemble one by one; checkpoint too, where they differ in it. predict_keys: of predictions, or
of the measure. Seconds: wall time of the nodes behind the row; nodes that rows share count in each of them.
data_fingerprint: SHA-256 of the images and labels behind the row, then of other data that its networks were trained on
before.
"""

_SHORT = 12


def details(plan: Plan, store: Store, results: Sequence[CellResult] | None = None) -> Any:
    """A `pandas.DataFrame` with the columns `DETAILS`, all text; a row for each cell and seed, in the plan's order."""
    import pandas as pd

    records = Records(plan, store)
    crafts = CraftNodes(plan, store, records)
    rows = []
    for result in results if results is not None else measure_plan(plan, store):
        cell = result.cell
        for position, seed in enumerate(result.seeds):
            keys = keys_behind(cell, position)
            nodes = records.nodes(keys)
            distances = crafts.distances(cell, position, seed)
            rows.append(
                {
                    **key_columns(cell),
                    "seed": str(cell.seeds[position]),
                    "interval": result.interval.kind if result.interval else "",
                    **_measured(result, position),
                    **(distance_columns(*distances) if distances else {"linf": "", "l2": ""}),
                    **_networks(cell, position, nodes, records),
                    **_seconds(nodes, records),
                    "attack_keys": _short(key for key, node in nodes.items() if node.kind == "craft"),
                    "predict_keys": _short(keys),
                    "data_fingerprint": " ".join(_fingerprints(keys, nodes)),
                    "notes": "; ".join(_notes(nodes, records)),
                }
            )
    return pd.DataFrame(rows, columns=list(DETAILS), dtype=str)


def _short(keys: Iterable[str]) -> str:
    return " ".join(key[:_SHORT] for key in keys)


def _fingerprints(keys: Sequence[str], nodes: Mapping[str, Node]) -> list[str]:
    """Of the images behind the row first, then of other data that its networks were trained on before."""
    own = [found for key in keys for found in fingerprints_behind(key, nodes)]
    return list(dict.fromkeys([*own, *(str(n.spec["fingerprint"]) for n in nodes.values() if n.kind == "data")]))


def _networks(cell: PlannedCell, position: int, nodes: Mapping[str, Node], records: Records) -> dict[str, str]:
    keys, checkpoints = _asked(cell, position, nodes)
    outcomes: list[Mapping[str, Any]] = [records.record(key).get("outcome", {}) for key in keys]
    # A member without an outcome (not run yet) keeps its place in the list.
    epochs = ["-" if outcome.get("best_epoch") is None else str(outcome["best_epoch"]) for outcome in outcomes]
    accuracies = [outcome.get("best_validation_accuracy") for outcome in outcomes]
    known = any(outcomes)
    return {
        "checkpoint": " ".join(checkpoints if len(set(checkpoints)) > 1 else checkpoints[:1]),
        "best_epoch": " ".join(epochs) if known else "",
        "best_validation_accuracy": " ".join("-" if a is None else percent(a) for a in accuracies) if known else "",
        "network_keys": _short(keys),
    }


def _asked(cell: PlannedCell, position: int, nodes: Mapping[str, Node]) -> tuple[list[str], list[str]]:
    """Keys of the networks behind the cell, those of an ensemble one by one, and their checkpoints."""
    if cell.predictions:
        asked = cell.predictions[position][0]
        keys = [target for key in asked for target in targets_of(key, nodes)]
        return keys, [checkpoint for key in asked for checkpoint in checkpoints_of(key, nodes)]
    node = nodes[cell.values[position]]
    members = [role for role in node.inputs if role.startswith("member_")]
    chosen = sorted(members, key=lambda role: int(role.removeprefix("member_")))
    checkpoints = [str(member["checkpoint"]) for member in node.spec["members"] if "checkpoint" in member]
    return [node.inputs[role] for role in chosen], checkpoints


def _seconds(nodes: Mapping[str, Node], records: Records) -> dict[str, str]:
    groups = {"network_seconds": NETWORKS, "attack_seconds": ("craft",), "predict_seconds": ("predict",)}
    row = {}
    for name, kinds in groups.items():
        taken = [records.record(key).get("wall_seconds") for key, node in nodes.items() if node.kind in kinds]
        known = [float(seconds) for seconds in taken if seconds is not None]
        row[name] = f"{sum(known):.1f}" if known else ""
    return row


def _notes(nodes: Mapping[str, Node], records: Records) -> list[str]:
    notes = [str(note) for key in nodes for note in records.record(key).get("notes", ())]
    return list(dict.fromkeys(notes))


def _measured(result: CellResult, position: int) -> dict[str, str]:
    row = dict.fromkeys(("accuracy", "quantity", "n", "worst_source", "mixture"), "")
    cell, seed = result.cell, result.seeds[position]
    if seed is not None:
        return row | {
            "accuracy": percent(seed.accuracy),
            "n": str(len(seed.scores)),
            "worst_source": "" if seed.worst_source is None else cell.sources[seed.worst_source],
            "mixture": " ".join(f"{probability:.4f}" for probability in seed.mixture),
        }
    quantity = result.seed_quantities[position] if cell.values else None
    if quantity is None:
        return row
    text = {"quantity": quantity_text(quantity.kind, quantity.value)}
    return row | text | ({} if quantity.images is None else {"n": str(len(quantity.images))})
