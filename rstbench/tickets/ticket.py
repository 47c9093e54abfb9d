"""The ticket file: a mask, the batch-norm buffers of its search, where its weights come from. No pickle, no weights.

A ticket is one safetensors file. Its metadata entry `rstbench` is canonical JSON with

* `format`: 1
* `model`: the `ModelSpec` of the network
* `weights`: {"kind": "random", "init", "seed"}, from which theta is regenerated; or {"kind": "trained", "key",
  "checkpoint", "classifier", "init", "seed"} for a robust trained ticket (RTT), whose theta is stored once, in the
  checkpoint of the dense network (`tickets.weights.TrainedWeights`)
* `theta_digest`: SHA-256 of theta (`networks.init.theta_digest`), checked on loading
* `remaining_ratio`, `pattern`, `layers`: name, shape of the mask over units, and units kept, layer by layer
* `provenance`: free facts (search settings, data fingerprint, versions)
* `digest`: SHA-256 over all of the above and every tensor, so that one flipped bit is found

and its tensors are `mask` (the packed bits of all layers, most significant bit first, compressed with zlib),
`buffer/<name>` (running means and variances), and `parameter/<name>` for parameters that a search trains beside the
mask (scale and shift of the last batch norm, where `last_bn_affine` asks for it). Only the entropy of the mask is
stored: about 0.29 bits a weight at 5 % and 0.72 at 20 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rstbench.errors import TicketError
from rstbench.networks.init import theta_digest
from rstbench.networks.spec import ModelSpec
from rstbench.spec.base import Ratio, Spec
from rstbench.spec.models import PATTERNS
from rstbench.tickets.container import build_declared, pack, read_file, unpack
from rstbench.tickets.mask import expand, maskable
from rstbench.tickets.packing import layers_of, pack_masks, unpack_masks
from rstbench.tickets.weights import LoadWeights, RandomWeights, TicketWeights, TrainedWeights, fill, kind


@dataclass(frozen=True)
class Ticket:
    """A mask over the weights of a network: random ones (RST) or trained ones (RTT).

    masks: layer name -> bool tensor over units; buffers: name -> tensor; provenance: JSON-able facts; parameters:
    name -> tensor, in place of theta's, of parameters that no mask covers.
    """

    model: ModelSpec
    weights: RandomWeights | TrainedWeights
    remaining_ratio: float
    pattern: str
    theta_digest: str
    masks: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    provenance: Mapping[str, Any]
    parameters: Mapping[str, Tensor] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The ticket file."""
        tensors = {"mask": pack_masks(self.masks)}
        tensors |= {f"buffer/{name}": buffer for name, buffer in self.buffers.items()}
        tensors |= {f"parameter/{name}": parameter for name, parameter in self.parameters.items()}
        header = {
            "model": self.model.written(),
            "weights": self.weights.model_dump(mode="json"),
            "theta_digest": self.theta_digest,
            "remaining_ratio": self.remaining_ratio,
            "pattern": self.pattern,
            "layers": layers_of(self.masks),
            "provenance": dict(self.provenance),
        }
        return pack(header, tensors)

    def theta(self, load: LoadWeights | None = None) -> nn.Module:
        """The whole network that the ticket was drawn from, in training mode; its buffers are not the ticket's.

        load: where trained weights come from. Raises `TicketError` if it is needed and absent, or if the weights are
        not those that the ticket was drawn from.
        """
        module = build_declared(self.model)
        fill(module, self.model, self.weights, load)
        if theta_digest(module) != self.theta_digest:
            found = "regenerated from the ticket's seed"
            if isinstance(self.weights, TrainedWeights):
                found = f"found as checkpoint {self.weights.checkpoint} of value {self.weights.key[:12]}"
            raise TicketError(
                f"the weights {found} are not those it was drawn from (SHA-256 differs); "
                "it belongs to another network or to another version of rstbench"
            )
        return module

    def network(self, load: LoadWeights | None = None) -> nn.Module:
        """The ticket as a plain network in evaluation mode: images (N, C, H, W) in [0, 1] to logits (N, classes).

        Theta is regenerated (or loaded: `theta`) and the mask multiplied in, so that any attack library can use the
        module. Raises `TicketError` if theta or the layers are not those that the ticket was drawn from.
        """
        module = self.theta(load)
        weights = maskable(module)
        if list(weights) != list(self.masks):
            raise TicketError(f"the ticket masks {len(self.masks)} layers that are not those of {self.model.family}")
        with torch.no_grad():
            for name, weight in weights.items():
                weight.mul_(expand(self.masks[name], weight))
        parameters = dict(module.named_parameters())
        buffers = {name: value for name, value in module.state_dict().items() if name not in parameters}
        if _kinds(self.buffers) != _kinds(buffers):
            raise TicketError("the ticket's batch-norm buffers are not those of its network")
        free = _kinds({name: value for name, value in parameters.items() if name not in weights})
        if not _kinds(self.parameters).items() <= free.items():
            raise TicketError("the ticket's trained parameters are not among those of its network that no mask covers")
        module.load_state_dict({**self.buffers, **self.parameters}, strict=False)
        return module.eval().requires_grad_(False)


class _Header(Spec):
    format: Literal[1]
    model: ModelSpec
    weights: TicketWeights
    theta_digest: str
    remaining_ratio: Ratio
    pattern: Literal[PATTERNS]  # type: ignore[valid-type]
    layers: tuple[tuple[str, tuple[int, ...], int], ...]
    provenance: dict[str, Any]
    digest: str


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: kind(tensor) for name, tensor in tensors.items()}


def read_ticket(data: bytes, where: str = "ticket") -> Ticket:
    """Read a ticket file. Raises `TicketError`, naming `where`, if it is damaged or not a ticket."""
    try:
        header, tensors = unpack(data, "ticket", _Header)
        packed = tensors.pop("mask", None)
        if packed is None or not all(name.startswith(("buffer/", "parameter/")) for name in tensors):
            raise TicketError("its tensors are not those of a ticket")
        masks = unpack_masks(packed, header.model, header.pattern, header.layers)
    except TicketError as error:
        raise TicketError(f"{where}: {error}") from error
    return Ticket(
        model=header.model,
        weights=header.weights,
        remaining_ratio=header.remaining_ratio,
        pattern=header.pattern,
        theta_digest=header.theta_digest,
        masks=masks,
        buffers=part(tensors, "buffer/"),
        provenance=header.provenance,
        parameters=part(tensors, "parameter/"),
    )


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name begins with `prefix`, by the rest of their name."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def load_ticket(path: Path) -> Ticket:
    """Read a ticket from a file. Raises `TicketError` if the file is absent, damaged or not a ticket."""
    return read_ticket(read_file(path), str(path))
