"""Beside the table: one row a cell and seed (times, distances, epochs), and the transfer matrices, long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rstbench.plan import Node, Plan, PlannedCell
from rstbench.report.crafted import CraftNodes, distance_columns
from rstbench.report.measure import CellResult, Records, SeedMeasurement, measure_plan, prediction_keys
from rstbench.report.table import KEY, key_columns, percent
from rstbench.store import Store

DETAILS = (
    *KEY, "seed", "accuracy", "n", "interval", "worst_source", "mixture",
    "linf", "l2", "checkpoint", "best_epoch", "best_validation_accuracy",
    "network_seconds", "attack_seconds", "predict_seconds", "network_keys", "attack_keys", "predict_keys",
    "data_fingerprint", "notes",
)  # fmt: skip
"""The columns of details.csv.

accuracy: of this seed, percent. interval: the kind of the table's interval. worst_source: label of the source that
does most damage, where the adversary chose one for all images. mixture: member probabilities, in order, that the game
fitted on held-out images. linf (in units of 1/255) and l2: mean distances of the images as crafted; of the worst source
where one was chosen; blank where the adversary chooses for each image. best_epoch, best_validation_accuracy (percent)
and network_keys: one for each member, in order. Seconds: wall time of the nodes behind the row; nodes that rows share
count in each of them. data_fingerprint: SHA-256 of the images and labels behind the row.
"""

TRANSFER = (*KEY, "source", "member", "accuracy", "n", "seeds")
"""The columns of transfer.csv. accuracy: of `member` on images made against `source`, percent, mean over seeds.

Sources of an adversary that chooses among attacks are all sources of these attacks, and the clean images.
"""

_SHORT = 12
_NETWORKS = ("train", "search")


def details(plan: Plan, store: Store, results: Sequence[CellResult] | None = None) -> Any:
    """A `pandas.DataFrame` with the columns `DETAILS`, all text; a row for each cell and seed, in the plan's order."""
    import pandas as pd

    records = Records(plan, store)
    crafts = CraftNodes(plan, store, records)
    rows = []
    for result in results if results is not None else measure_plan(plan, store):
        cell, measured = result.cell, result.measurement
        for position, seed in enumerate(result.seeds):
            predictions = prediction_keys(cell, position)
            nodes = records.nodes(predictions)
            distances = crafts.distances(cell, position, seed)
            rows.append(
                {
                    **key_columns(cell),
                    "seed": str(cell.seeds[position]),
                    "interval": measured.interval.kind if measured else "",
                    **_measured(cell, seed),
                    **(distance_columns(*distances) if distances else {"linf": "", "l2": ""}),
                    **_networks([nodes[key] for key in cell.predictions[position][0]], records),
                    **_seconds(nodes, records),
                    "attack_keys": _short(key for key, node in nodes.items() if node.kind == "craft"),
                    "predict_keys": _short(predictions),
                    "data_fingerprint": " ".join(n.spec["fingerprint"] for n in nodes.values() if n.kind == "data"),
                    "notes": "; ".join(_notes(nodes, records)),
                }
            )
    return pd.DataFrame(rows, columns=list(DETAILS), dtype=str)


def transfer(plan: Plan, store: Store, results: Sequence[CellResult] | None = None) -> Any:
    """A `pandas.DataFrame` with the columns `TRANSFER`, all text: cells of several members that were run."""
    import pandas as pd

    rows = []
    for result in results if results is not None else measure_plan(plan, store):
        cell, measured = result.cell, result.measurement
        if measured is None or len(cell.members) == 1:
            continue
        fixed = {"n": str(measured.n), "seeds": " ".join(map(str, cell.seeds))}
        rows += [
            {
                **key_columns(cell),
                "source": source,
                "member": member,
                "accuracy": percent(measured.matrix[s, m]),
                **fixed,
            }
            for s, source in enumerate(cell.sources)
            for m, member in enumerate(cell.members)
        ]
    return pd.DataFrame(rows, columns=list(TRANSFER), dtype=str)


def _short(keys: Iterable[str]) -> str:
    return " ".join(key[:_SHORT] for key in keys)


def _networks(predictions: Sequence[Node], records: Records) -> dict[str, str]:
    keys = [node.inputs["target"] for node in predictions]
    outcomes: list[Mapping[str, Any]] = [records.record(key).get("outcome", {}) for key in keys]
    # A member without an outcome (not run yet) keeps its place in the list.
    epochs = ["-" if outcome.get("best_epoch") is None else str(outcome["best_epoch"]) for outcome in outcomes]
    accuracies = [outcome.get("best_validation_accuracy") for outcome in outcomes]
    known = any(outcomes)
    return {
        "checkpoint": str(predictions[0].spec.get("checkpoint", "")),
        "best_epoch": " ".join(epochs) if known else "",
        "best_validation_accuracy": " ".join("-" if a is None else percent(a) for a in accuracies) if known else "",
        "network_keys": _short(keys),
    }


def _seconds(nodes: Mapping[str, Node], records: Records) -> dict[str, str]:
    groups = {"network_seconds": _NETWORKS, "attack_seconds": ("craft",), "predict_seconds": ("predict",)}
    row = {}
    for name, kinds in groups.items():
        taken = [records.record(key).get("wall_seconds") for key, node in nodes.items() if node.kind in kinds]
        known = [float(seconds) for seconds in taken if seconds is not None]
        row[name] = f"{sum(known):.1f}" if known else ""
    return row


def _notes(nodes: Mapping[str, Node], records: Records) -> list[str]:
    notes = [str(note) for key in nodes for note in records.record(key).get("notes", ())]
    return list(dict.fromkeys(notes))


def _measured(cell: PlannedCell, seed: SeedMeasurement | None) -> dict[str, str]:
    if seed is None:
        return dict.fromkeys(("accuracy", "n", "worst_source", "mixture"), "")
    return {
        "accuracy": percent(seed.accuracy),
        "n": str(len(seed.scores)),
        "worst_source": "" if seed.worst_source is None else cell.sources[seed.worst_source],
        "mixture": " ".join(f"{probability:.4f}" for probability in seed.mixture),
    }
