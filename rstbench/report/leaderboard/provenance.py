"""Where the values behind an entry come from: versions, processors, revision, day; what the networks take."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rstbench.report.leaderboard.behind import Behind, Judged
from rstbench.spec.base import ratio_text

PACKAGES = ("rstbench", "python", "torch", "torchvision", "numpy")
"""Of the provenance in records, in this order."""

Count = Callable[[Mapping[str, Any]], tuple[int, int]]
"""Parameters in all, and kept: of what `kept_fields` says. Building a network needs torch, which is not here."""

_FAMILY = re.compile(r"-([0-9.]*[0-9])$")


@dataclass(frozen=True)
class Provenance:
    """Distinct values of everything behind an entry, sorted. finished: the newest, ISO 8601 in UTC, or empty."""

    packages: tuple[str, ...]
    hardware: tuple[str, ...]
    commits: tuple[str, ...]
    finished: str

    def written(self) -> dict[str, Any]:
        """For the JSON's `record`."""
        return {
            "packages": list(self.packages),
            "hardware": list(self.hardware),
            "commits": list(self.commits),
            "finished": self.finished,
        }


def provenance_of(behind: Behind, keys: Iterable[str]) -> Provenance:
    """Of the values under `keys` and all that they are computed from. What a record does not say is left out."""
    packages: dict[str, set[str]] = {name: set() for name in PACKAGES}
    hardware, commits, finished = set(), set(), set()
    for key in behind.ancestors(keys):
        record = behind.records[key]
        said = record.get("provenance")
        said = said if isinstance(said, Mapping) else {}
        for name in PACKAGES:
            if name in said:
                packages[name].add(str(said[name]))
        hardware |= {str(said["hardware"])} if "hardware" in said else set()
        commits |= {str(said["commit"])} if said.get("commit") else set()
        finished |= {str(record["finished"])} if "finished" in record else set()
    return Provenance(
        tuple(f"{name} {version}" for name in PACKAGES for version in sorted(packages[name])),
        tuple(sorted(hardware)),
        tuple(sorted(commits)),
        max(finished, default=""),
    )


def ratio_of(behind: Behind, key: str, checkpoint: str) -> str:
    """The remaining ratio of a network, "1.00" of a dense one; empty for a model from elsewhere."""
    fields = kept_fields(behind, key, checkpoint)
    return "" if fields is None else ratio_text(float(fields["remaining_ratio"]))


def kept_fields(behind: Behind, key: str, checkpoint: str) -> dict[str, Any] | None:
    """What a network's number of parameters follows from (`tickets.count`); None for a model from elsewhere."""
    node = behind.nodes[key]
    if node.kind == "model":
        return None
    model = node.spec.get("model")
    if node.kind == "tune":
        ticket = node.spec.get("ticket", {})
        fields = kept_fields(behind, node.inputs["ticket"], str(ticket.get("checkpoint", "")))
        return fields and {**fields, "model": model}
    ratio = node.spec.get("remaining_ratio", 1.0)
    in_family = _FAMILY.search(checkpoint)
    if in_family and "remaining_ratio" not in node.spec:
        ratio = float(in_family[1])
    return {
        "model": model,
        "remaining_ratio": float(ratio),
        "pattern": str(node.spec.get("pattern", "element")),
        "layer_power": float(node.spec.get("training", {}).get("layer_power", 1.0)),
    }


def parameters(behind: Behind, networks: Iterable[tuple[str, str]], count: Count) -> tuple[str, str]:
    """The columns `parameters` and `parameters_kept` of (key, checkpoint): the largest of each; empty if not known."""
    totals, kept = [], []
    for key, checkpoint in dict.fromkeys(networks):
        fields = kept_fields(behind, key, checkpoint)
        found = count(fields) if fields is not None else (behind.records[key].get("parameters"),) * 2
        if not all(isinstance(each, int) for each in found):
            return "", ""
        totals.append(int(found[0] or 0))
        kept.append(int(found[1] or 0))
    return str(max(totals)), str(max(kept))


def stored_bytes(behind: Behind, networks: Iterable[tuple[str, str]]) -> str:
    """The column `ticket_bytes` of (key, checkpoint): their files, and the trained weights that these refer to.

    Each file once. Empty where a network has no file in the store.
    """
    files: dict[tuple[str, str], int] = {}
    for key, checkpoint in networks:
        wanted = [(key, checkpoint)]
        node = behind.nodes[key]
        if node.kind == "rtt":
            wanted.append((node.inputs["weights"], str(node.spec.get("weights", {}).get("checkpoint", ""))))
        for each in wanted:
            entry = behind.records[each[0]]["files"].get(f"{each[1]}.safetensors")
            if entry is None:
                return ""
            files[each] = int(entry["bytes"])
    return str(sum(files.values()))


def network_file(behind: Behind, key: str, checkpoint: str) -> str:
    """SHA-256 of a network's file in the store; empty for a model from elsewhere."""
    entry = behind.records[key]["files"].get(f"{checkpoint}.safetensors")
    return str(entry["sha256"]) if entry is not None else ""


_KINDS = {
    "train": "dense",
    "lottery": "lottery",
    "model": "model",
    "search": "ticket",
    "rtt": "ticket",
    "tune": "ticket",
}


def kind_of(behind: Behind, members: Sequence[Judged], average: str) -> str:
    """The column `defense`: what the members under one seed are, as suites name kinds.

    r2s: a switch between tickets of different ratios, searched in the same weights by the same search.
    """
    if average:
        return "ensemble"
    kinds = {behind.nodes[key].kind for member in members for key, _ in member}
    if len(members) == 1:
        (kind,) = kinds
        return _KINDS.get(kind, kind)
    fields = [_searched(behind, *member[0]) for member in members]
    ratios = {ratio_of(behind, *member[0]) for member in members}
    alike = all(each is not None and each == fields[0] for each in fields)
    return "r2s" if alike and len(ratios) == len(members) else "switch"


def _searched(behind: Behind, key: str, checkpoint: str) -> dict[str, Any] | None:
    """What tickets of one R2S share: all but their ratio; None for what is no ticket."""
    node = behind.nodes[key]
    if node.kind not in ("search", "rtt", "tune"):
        return None
    inputs: dict[str, Any] = {role: of for role, of in node.inputs.items() if role != "ticket"}
    if node.kind == "tune":
        inputs["ticket"] = _searched(behind, node.inputs["ticket"], "")
    return {"kind": node.kind, **{k: v for k, v in node.spec.items() if k != "remaining_ratio"}, "inputs": inputs}


def network_label(behind: Behind, networks: Iterable[tuple[str, str]]) -> str:
    """The column `network`: architectures of the members, each once."""
    return " ".join(dict.fromkeys(_architecture(behind, key) for key, _ in networks))


def _architecture(behind: Behind, key: str) -> str:
    model = behind.nodes[key].spec.get("model", {})
    if behind.nodes[key].kind == "model":
        return f"{model.get('source')}:{model.get('name')}"
    width = float(model.get("width", 1.0))
    return str(model.get("family")) if width == 1.0 else f"{model.get('family')}-w{width:g}"


def dataset_label(behind: Behind, data: str) -> str:
    """The column `dataset`: name, or else source, of a data node."""
    load = behind.nodes[data].spec.get("load", {})
    return str(load.get("name") or load.get("source"))
