"""Builder of nodes that put together what was attacked or judged in parts."""

from __future__ import annotations

from typing import Any

from rstbench.build.bench import Bench, Built
from rstbench.errors import StoreError
from rstbench.evaluation.files import SAMPLES, concatenated_samples
from rstbench.nodes import Node
from rstbench.training import Progress


def build_join(node: Node, bench: Bench, progress: Progress) -> Built:
    """`SAMPLES` of all parts, one after the other; no images: those stay with the parts.

    Facts: `joined`, the kind of the parts; all their flags; of craft nodes the sums of passes and seconds, where every
    part knows its own, and of the images kept from smaller epsilons. Raises `StoreError` if the parts are of several
    kinds or have other columns.
    """
    parts = [bench.store.value(node.inputs[f"part_{i}"]) for i in range(len(node.inputs))]
    kinds = sorted({part.record["kind"] for part in parts})
    if len(kinds) != 1:
        raise StoreError(f"{node.title}: its parts are of kinds {' and '.join(kinds)}; they must be of one")
    files = [(part.read(SAMPLES), str(part.directory / SAMPLES)) for part in parts]
    facts: dict[str, Any] = {
        "joined": kinds[0],
        "flags": sorted({flag for part in parts for flag in part.record["flags"]}),
    }
    if all("kept" in part.record for part in parts):
        kept = [part.record["kept"] for part in parts]
        facts["kept"] = {epsilon: sum(each[epsilon] for each in kept) for epsilon in kept[0]}
    if all("passes" in part.record for part in parts):
        counts = [part.record["passes"] for part in parts]
        facts["passes"] = {name: sum(count[name] for count in counts) for name in counts[0]}
        facts["attack_seconds"] = round(sum(part.record["attack_seconds"] for part in parts), 3)
    return facts, {SAMPLES: concatenated_samples(files)}
