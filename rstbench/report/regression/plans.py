"""Rows of a store, planned by its suites: every accuracy, with per-image scores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from rstbench.plan import Plan
from rstbench.report.measure import CellResult, Measurement, keys_behind, measure_plan
from rstbench.report.parts import checkpoints_of, fingerprints_behind, targets_of
from rstbench.report.predictions import read_samples
from rstbench.report.regression.rows import Row, SeedScores, Side
from rstbench.report.regression.tables import IDENTITY, label, substitutes, unique
from rstbench.report.table import key_columns
from rstbench.store import Store


def read_plans(plans: Sequence[Plan], store: Store, name: str) -> Side:
    """The accuracies of these plans that are in the store. name: for messages.

    Raises `StoreError` if stored values are damaged, or two suites give one row different values.
    """
    rows, measures = [], 0
    for plan in plans:
        for result in measure_plan(plan, store):
            measures += bool(result.cell.values)
            if result.measurement is not None:
                rows.append(_row(plan, result, result.measurement, store))
    notes = [f"{name}: {measures} rows are no accuracies and are not compared"] if measures else []
    return Side(name, unique(rows, name), tuple(notes))


def _row(plan: Plan, result: CellResult, measurement: Measurement, store: Store) -> Row:
    cell = result.cell
    record = {**key_columns(cell), **cell.run, "profile": str(plan.suite.profile)}
    scores, networks = {}, {}
    for position, seed in enumerate(measurement.seeds):
        first = read_samples(store, cell.predictions[position][0][0])
        scores[seed.seed] = SeedScores(seed.index, seed.scores, None if first is None else first.label)
        networks[seed.seed] = tuple(_networks(cell.predictions[position][0], plan, store))
    keys = [key for position in range(len(cell.seeds)) for key in keys_behind(cell, position)]
    behind = fingerprints_behind(keys[0], plan.nodes)
    return Row(
        key=tuple(record[column] for column in IDENTITY),
        label=label(record),
        value=round(measurement.accuracy, 2),
        low=measurement.interval.low,
        high=measurement.interval.high,
        n=measurement.n,
        seeds=tuple(cell.seeds),
        scores=scores,
        networks=networks,
        evidence=_evidence(keys, store),
        setting={"substitutes": substitutes(" ".join(sorted(cell.substitutes))), "data": " ".join(behind[:1])[:12]},
    )


def _networks(predictions: Iterable[str], plan: Plan, store: Store) -> list[str]:
    """Of each network asked, "key:digest". The digest is of its files, in case one recipe gave other bits elsewhere.

    The checkpoint tells apart what one training kept.
    """
    found = []
    for key in predictions:
        for target, checkpoint in zip(targets_of(key, plan.nodes), checkpoints_of(key, plan.nodes), strict=True):
            files = store.value(target).record["files"] if store.has(target) else {}
            text = " ".join([checkpoint, *(f"{name} {entry['sha256']}" for name, entry in sorted(files.items()))])
            found.append(f"{target}:{hashlib.sha256(text.encode()).hexdigest() if files else ''}")
    return found


def _evidence(keys: Sequence[str], store: Store) -> str:
    """Of all predictions behind a row, bit for bit."""
    found = hashlib.sha256()
    for key in keys:
        for name, entry in sorted(store.value(key).record["files"].items()):
            found.update(f"{key} {name} {entry['sha256']}\n".encode())
    return found.hexdigest()
