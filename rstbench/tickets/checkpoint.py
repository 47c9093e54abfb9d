"""Weight checkpoints of dense networks: the network's spec and its state dict in one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from rstbench.errors import TicketError
from rstbench.networks.spec import ModelSpec
from rstbench.spec.base import Spec
from rstbench.tickets.container import build_declared, pack, unpack
from rstbench.tickets.weights import LoadWeights, kind


@dataclass(frozen=True)
class Checkpoint:
    """A dense network: its spec, and its state dict. digest: the file's, where it has one."""

    model: ModelSpec
    state: Mapping[str, Tensor]
    digest: str | None = None

    def network(self, load: LoadWeights | None = None) -> nn.Module:
        """The network in evaluation mode. load: not needed; here so that it can be asked as a ticket is."""
        module = build_declared(self.model)
        module.load_state_dict(dict(self.state))
        return module.eval().requires_grad_(False)


class _Header(Spec):
    format: Literal[1]
    model: ModelSpec
    digest: str | None = None  # the first checkpoints of format 1 had none


def checkpoint_bytes(model: ModelSpec, state: Mapping[str, Tensor]) -> bytes:
    """A checkpoint file of a network with this state dict."""
    return pack({"model": model.written()}, state)


def read_checkpoint(data: bytes, where: str = "checkpoint") -> Checkpoint:
    """Read a checkpoint file. Raises `TicketError`, naming `where`, if it is damaged, not one, or does not fit."""
    try:
        header, tensors = unpack(data, "checkpoint", _Header)
        module = build_declared(header.model)
    except TicketError as error:
        raise TicketError(f"{where}: {error}") from error
    expected = {name: kind(value) for name, value in module.state_dict().items()}
    if {name: kind(value) for name, value in tensors.items()} != expected:
        raise TicketError(f"{where}: its tensors are not those of a {header.model.family}")
    return Checkpoint(header.model, tensors, header.digest)


def checkpoint_network(data: bytes, where: str = "checkpoint") -> nn.Module:
    """The network of a checkpoint file, in evaluation mode. Raises `TicketError` if it is not one or does not fit."""
    return read_checkpoint(data, where).network()
