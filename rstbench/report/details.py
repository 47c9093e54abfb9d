"""Beside the table: one row a cell and seed (times, distances, epochs), and the transfer matrices, long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rstbench.plan import Node, Plan
from rstbench.report.measure import CellResult, Records, measure_plan, read_columns
from rstbench.report.table import KEY, key_columns, percent
from rstbench.store import Store

DETAILS = (
    *KEY, "seed", "accuracy", "n", "interval",
    "linf", "l2", "checkpoint", "best_epoch", "best_validation_accuracy",
    "network_seconds", "attack_seconds", "predict_seconds", "network_keys", "attack_keys", "predict_keys",
    "data_fingerprint", "notes",
)  # fmt: skip
"""The columns of details.csv.

accuracy: of this seed, percent. interval: the kind of the table's interval. linf (in units of 1/255) and l2: mean
distances of the adversarial images. best_epoch, best_validation_accuracy (percent) and network_keys: one for each
member, in order. Seconds: wall time of the nodes behind the row; nodes that rows share count in each of them.
data_fingerprint: SHA-256 of the images and labels behind the row.
"""

TRANSFER = (*KEY, "source", "member", "accuracy", "n", "seeds")
"""The columns of transfer.csv. accuracy: of `member` on images made against `source`, percent, mean over seeds."""

_SHORT = 12
_NETWORKS = ("train", "search")


def details(plan: Plan, store: Store, results: Sequence[CellResult] | None = None) -> Any:
    """A `pandas.DataFrame` with the columns `DETAILS`, all text; a row for each cell and seed, in the plan's order."""
    import pandas as pd

    records = Records(plan, store)
    distances: dict[str, tuple[float, float] | None] = {}
    rows = []
    for result in results if results is not None else measure_plan(plan, store):
        cell, measured = result.cell, result.measurement
        for seed, seeds_result, keys in zip(cell.seeds, result.seeds, cell.predictions, strict=True):
            predictions = [key for row in keys for key in row]
            nodes = records.nodes(predictions)
            crafted = [key for key, node in nodes.items() if node.kind == "craft"]
            for key in crafted:
                if key not in distances:
                    distances[key] = _distances(store, key)
            rows.append(
                {
                    **key_columns(cell),
                    "seed": str(seed),
                    "accuracy": percent(seeds_result.accuracy) if seeds_result else "",
                    "n": str(len(seeds_result.scores)) if seeds_result else "",
                    "interval": measured.interval.kind if measured else "",
                    **_mean_distances([distances[key] for key in crafted]),
                    **_networks([nodes[key] for key in keys[0]], records),
                    **_seconds(nodes, records),
                    "attack_keys": _short(crafted),
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


def _distances(store: Store, key: str) -> tuple[float, float] | None:
    columns = read_columns(store, key, ("linf", "l2"))
    return None if columns is None else (float(columns["linf"].mean()), float(columns["l2"].mean()))


def _mean_distances(of_sources: Sequence[tuple[float, float] | None]) -> dict[str, str]:
    known = [pair for pair in of_sources if pair is not None]
    if not known or len(known) != len(of_sources):
        return {"linf": "", "l2": ""}
    linf = sum(pair[0] for pair in known) / len(known)
    l2 = sum(pair[1] for pair in known) / len(known)
    return {"linf": f"{255 * linf:.3f}", "l2": f"{l2:.4f}"}
