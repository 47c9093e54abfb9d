"""battery.csv: one row a cell, with what the attack did to the images and what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstbench.errors import StoreError
from rstbench.plan import Plan
from rstbench.report.crafted import CraftNodes, distance_columns, used
from rstbench.report.measure import CellResult, Records, SeedMeasurement, keys_behind, measure_plan
from rstbench.report.reliability import defense_of
from rstbench.report.table import KEY
from rstbench.spec.flags import RELIABILITY
from rstbench.store import Store

BATTERY = (
    *KEY, "accuracy", "ci_low", "ci_high", "n", "seeds", "run_eps",
    "linf", "l2", "fooled", "l2_median", "queries_mean", "queries_median", "gradients", "forwards", "seconds",
    *RELIABILITY, "flags",
)  # fmt: skip
"""The columns of battery.csv, all text; blank: not run, not counted, or a row that is no accuracy.

accuracy, ci_low, ci_high (percent), n, seeds, run_eps and flags: those of table.csv.
linf (in units of 1/255), l2: mean distances of all images as crafted, those that are beyond a `within_epsilon` among
them; of the worst source only, where it was chosen; blank where the adversary chooses for each image.
fooled: percent, of the predictions that are right on the clean image, that are wrong on the crafted one, each weighted
by how often source and member are drawn; blank unless the suite measures the same defense without attack.
l2_median, queries_mean, queries_median: of these fooled ones. Queries are the attack's own count, up to its success.
gradients, forwards: passes of one image through one network, with gradient and without, mean over images and sources;
the sum over all attacks where the adversary chooses for each image.
seconds: wall time of all crafting behind the row; rows that share images count it in each of them.
One column of 0 and 1 for each reliability flag.
"""

_CHOOSES = ("pointwise", "game")


def battery(plan: Plan, store: Store, frame: Any, results: Sequence[CellResult] | None = None) -> Any:
    """A `pandas.DataFrame` with the columns `BATTERY`, in the plan's order; frame: of `tidy`.

    Raises `StoreError` if what craft nodes have stored is damaged or of other images than the predictions.
    """
    import pandas as pd

    results = results if results is not None else measure_plan(plan, store)
    records = Records(plan, store)
    crafts = CraftNodes(plan, store, records)
    of = [defense_of(result.cell, plan.nodes) for result in results]
    clean = {key: result for key, result in zip(of, results, strict=True) if result.cell.attack_kind == "clean"}
    rows = []
    for key, result, said in zip(of, results, frame.to_dict("records"), strict=True):
        flags = said["flags"].split()
        row = dict.fromkeys(BATTERY, "") | {name: said[name] for name in (*KEY, "seeds", "run_eps", "flags")}
        if result.measurement is not None:
            row |= {"accuracy": said["ours"], **{name: said[name] for name in ("ci_low", "ci_high", "n")}}
            row |= {flag: str(int(flag in flags)) for flag in RELIABILITY}
            row |= _distances(result, crafts)
            row |= _fooled(result, clean.get(key), crafts)
            row |= _cost(result, crafts, records)
        rows.append(row)
    return pd.DataFrame(rows, columns=list(BATTERY), dtype=str)


def _distances(result: CellResult, crafts: CraftNodes) -> dict[str, str]:
    by_seed = [crafts.distances(result.cell, position, seed) for position, seed in enumerate(result.seeds)]
    known = [pair for pair in by_seed if pair is not None]
    if not known or len(known) != len(by_seed):
        return {}
    return distance_columns(_mean(pair[0] for pair in known), _mean(pair[1] for pair in known))


def _fooled(result: CellResult, clean: CellResult | None, crafts: CraftNodes) -> dict[str, str]:
    """Columns of predictions that are right on the clean and wrong on the crafted image."""
    cell = result.cell
    if clean is None or clean is result:
        return {}
    was_right: list[float] = []
    weights: list[NDArray[np.float64]] = []
    l2: list[NDArray[np.float64]] = []
    queries: list[NDArray[np.float64]] = []
    for position, (seed, natural) in enumerate(zip(result.seeds, clean.seeds, strict=True)):
        sources = used(cell, seed)
        if seed is None or natural is None or not sources:
            return {}
        before, rows = _aligned(natural, seed)
        keys = crafts.sources(cell, position)
        for source in sources:
            made = crafts.read(keys[source])
            if made is None:
                return {}
            if not np.array_equal(made.index, seed.index):
                raise StoreError(f"value {keys[source][0][:12]}: its images are not those of the predictions on them")
            drawn = np.asarray(cell.probabilities) / len(sources)
            fell = (before & ~seed.right[source][rows]) @ drawn
            was_right.append(float((before @ drawn).sum()))
            weights.append(fell)
            l2.append(made.l2[rows])
            if made.queries is not None:
                queries.append(made.queries[rows].astype(np.float64))
    total, weight = sum(was_right), np.concatenate(weights)
    columns = {"fooled": f"{100 * weight.sum() / total:.2f}"} if total > 0 else {}
    if weight.sum() > 0:
        columns["l2_median"] = f"{_median(np.concatenate(l2), weight):.4f}"
        if len(queries) == len(weights):
            counted = np.concatenate(queries)
            columns["queries_mean"] = f"{np.average(counted, weights=weight):.1f}"
            columns["queries_median"] = f"{_median(counted, weight):.1f}"
    return columns


def _aligned(natural: SeedMeasurement, seed: SeedMeasurement) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which members are right on the clean images (n, M), and the rows of `seed` that these are."""
    _, before, rows = np.intersect1d(natural.index, seed.index, assume_unique=True, return_indices=True)
    return natural.right[0][before], rows


def _median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Weighted median; half-way between two values where the weight is halved exactly between them."""
    order = np.argsort(values, kind="stable")
    values, weights = values[order][weights[order] > 0], weights[order][weights[order] > 0]
    share = np.round(weights.cumsum() / weights.sum(), 9)
    at = int(np.searchsorted(share, 0.5))
    upper = values[at + 1] if share[at] == 0.5 and at + 1 < len(values) else values[at]
    return float((values[at] + upper) / 2)


def _cost(result: CellResult, crafts: CraftNodes, records: Records) -> dict[str, str]:
    cell = result.cell
    behind = [
        key
        for position in range(len(cell.seeds))
        for key, node in records.nodes(keys_behind(cell, position)).items()
        if node.kind == "craft"
    ]
    taken = [records.record(key).get("attack_seconds") for key in behind]
    known = [float(seconds) for seconds in taken if seconds is not None]
    seconds = f"{sum(known):.1f}" if known and len(known) == len(taken) else ""
    passes: dict[str, list[float | None]] = {"gradients": [], "forwards": []}
    for position, seed in enumerate(result.seeds):
        keys = crafts.sources(cell, position)
        chosen = range(len(keys)) if cell.score in _CHOOSES else used(cell, seed) or ()
        made = [crafts.read(each) for each in (keys[source] for source in chosen) if each]
        for name, field in (("gradients", "gradient"), ("forwards", "forward")):
            counted = _known([getattr(each, field) if each is not None else None for each in made])
            total = sum(counted) if cell.score in _CHOOSES else _mean(counted) if counted else 0.0
            passes[name].append(total if counted else None)
    means = {name: _known(by_seed) for name, by_seed in passes.items()}
    return {"seconds": seconds, **{name: f"{_mean(counts):.1f}" if counts else "" for name, counts in means.items()}}


def _known(values: Sequence[float | None]) -> list[float]:
    """The values, or none of them if one is not known."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else []


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
