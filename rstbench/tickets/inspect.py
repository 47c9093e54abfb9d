"""What a file of ours holds, for people: a ticket, a pruned network or a dense one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import Tensor

from rstbench.networks.spec import ModelSpec
from rstbench.store import Store
from rstbench.tickets.checkpoint import Checkpoint
from rstbench.tickets.container import build_declared
from rstbench.tickets.files import load, stored_weights
from rstbench.tickets.mask import maskable
from rstbench.tickets.pruned import Pruned
from rstbench.tickets.ticket import Ticket
from rstbench.tickets.weights import TrainedWeights


def inspect(path: Path, console: Console, store: Store | None = None) -> None:
    """Print what the file is, and verify it by loading its network.

    store: where the trained weights behind a ticket are; without one, such a ticket is verified but for them.
    Raises `TicketError` if the file is damaged, or its weights cannot be regenerated; `StoreError` if the store does
    not hold them.
    """
    found = load(path)
    trained = isinstance(found, Ticket) and isinstance(found.weights, TrainedWeights)
    checked = ["file digest"] if not isinstance(found, Checkpoint) or found.digest else []
    if not trained or store is not None:
        found.network(None if store is None else stored_weights(store))
    model = found.model
    facts = [
        f"{path}  ({path.stat().st_size / 1e6:.3f} MB)",
        f"{model.family}, width {model.width:g}, {model.classes} classes, "
        f"{model.channels} x {model.image_size} x {model.image_size} images",
        *_facts(found),
    ]
    for line in facts:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if isinstance(found, Checkpoint):
        checked.append("tensors are the network's")
    else:
        console.print(_layers(model, found.masks))
        checked.append("mask counts")
    if isinstance(found, Ticket):
        console.print(f"theta SHA-256 {found.theta_digest}", highlight=False, markup=False, soft_wrap=True)
        if trained:
            checked += ["stored weights"] if store is not None else []
        else:
            checked.append("regenerated weights")
    console.print(f"verified: {', '.join(checked)}", highlight=False)
    if trained and store is None:
        console.print("not verified: the trained weights; name the store that holds them with --store")


def _facts(found: Ticket | Pruned | Checkpoint) -> list[str]:
    if isinstance(found, Checkpoint):
        parameters = sum(value.numel() for value in build_declared(found.model).parameters())
        return [f"dense network, {parameters} parameters"]
    checkpoint = found.provenance.get("checkpoint", "checkpoint unknown")
    ratio = f"remaining ratio {found.remaining_ratio:g}, pattern {found.pattern}"
    if isinstance(found, Ticket):
        weights = found.weights
        lines = [f"{ratio}, init {weights.init}, seed {weights.seed}, {checkpoint}"]
        if isinstance(weights, TrainedWeights):
            classifier = "" if weights.classifier == "kept" else f", classifier drawn anew from seed {weights.seed}"
            lines = [
                f"{ratio}, {checkpoint}",
                f"weights trained: {_value(weights.key, weights.checkpoint)}{classifier}",
            ]
        if found.parameters:
            lines.append(f"trained beside the mask: {', '.join(found.parameters)}")
        return lines
    return [f"pruned network, {ratio}, {checkpoint}", *_origin(found.provenance)]


def _origin(provenance: Mapping[str, Any]) -> list[str]:
    """Where a pruned network comes from. Provenance is free facts, so nothing is taken for granted."""
    lines = []
    for kind, source, text in (
        ("tune", "ticket", "fine-tuned ticket"),
        ("lottery", "weights", "lottery ticket: largest weights, rewound and trained again; pruned"),
    ):
        how, of = provenance.get(kind), provenance.get(source)
        if isinstance(how, dict) and isinstance(of, dict):
            start = f", weights {how['start']}" if "start" in how else ""
            drawn = f", init {how['init']}, seed {how.get('seed')}" if "init" in how else ""
            lines.append(f"{text} {_value(of.get('key'), of.get('checkpoint'))}{start}{drawn}")
    return lines


def _value(key: object, checkpoint: object) -> str:
    return f"{checkpoint} of value {key}"


def _layers(model: ModelSpec, masks: Mapping[str, Tensor]) -> Table:
    shapes = {name: tuple(weight.shape) for name, weight in maskable(build_declared(model)).items()}
    table = Table()
    for name in ("layer", "shape", "kept", "of", "ratio"):
        table.add_column(name, justify="left" if name in ("layer", "shape") else "right")
    total_kept = total = 0
    for name, mask in masks.items():
        size = math.prod(shapes[name])
        kept = int(mask.sum()) * (size // mask.numel())
        table.add_row(name, " x ".join(map(str, shapes[name])), str(kept), str(size), f"{kept / size:.4f}")
        total_kept, total = total_kept + kept, total + size
    table.add_row("all", "", str(total_kept), str(total), f"{total_kept / total:.4f}", style="bold")
    return table
