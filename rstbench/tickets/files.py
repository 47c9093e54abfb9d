"""Any network file of ours: which kind it is, its network, and where a ticket's trained weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from rstbench.errors import TicketError
from rstbench.store import Store
from rstbench.tickets.checkpoint import Checkpoint, read_checkpoint
from rstbench.tickets.container import declared, read_file
from rstbench.tickets.pruned import Pruned, read_pruned
from rstbench.tickets.ticket import Ticket, read_ticket
from rstbench.tickets.weights import LoadWeights

NetworkFile = Ticket | Pruned | Checkpoint


def read(data: bytes, where: str) -> NetworkFile:
    """A ticket, a pruned network or a checkpoint. Raises `TicketError`, naming `where`, if it is none or damaged."""
    header = declared(data) or {}
    if "kind" in header:
        return read_pruned(data, where)
    if "model" in header and "layers" not in header:
        return read_checkpoint(data, where)
    return read_ticket(data, where)


def load(path: Path) -> NetworkFile:
    """Read a file. Raises `TicketError` if it is absent, damaged or no network of ours."""
    return read(read_file(path), str(path))


def stored_weights(store: Store) -> LoadWeights:
    """Trained weights from the train nodes of a store; raises `StoreError` for a value that is not there."""

    def state(key: str, checkpoint: str) -> Mapping[str, Tensor]:
        value = store.value(key)
        if value.record.get("kind") != "train":
            raise TicketError(f"value {key[:12]} is a {value.record.get('kind')}, and no dense network to draw from")
        name = f"{checkpoint}.safetensors"
        return read_checkpoint(value.read(name), str(value.directory / name)).state

    return state
