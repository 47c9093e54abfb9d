"""The file of a pruned network: a mask, and the trained weights that it keeps. For networks that no seed regenerates.

Fine-tuned tickets and lottery tickets are such networks. A pruned network is one safetensors file. Its metadata entry
`rstbench` is canonical JSON with

* `format`: 1, and `kind`: "pruned"
* `model`, `remaining_ratio`, `pattern`, `layers`: as in a ticket (`tickets.ticket`)
* `provenance`: free facts (what was trained under which settings, key and checkpoint of what it was drawn from)
* `digest`: SHA-256 over all of the above and every tensor

and its tensors are `mask` (as in a ticket), `kept/<layer>` (the weights that the mask keeps, in C order of the whole
weight; every other weight is zero), `parameter/<name>` (parameters that no mask covers) and `buffer/<name>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rstbench.errors import TicketError
from rstbench.networks.spec import ModelSpec
from rstbench.spec.base import Ratio, Spec
from rstbench.spec.models import PATTERNS
from rstbench.tickets.container import build_declared, pack, unpack
from rstbench.tickets.mask import expand, maskable
from rstbench.tickets.packing import layers_of, pack_masks, unpack_masks
from rstbench.tickets.ticket import part
from rstbench.tickets.weights import LoadWeights, kind

KIND = "pruned"


@dataclass(frozen=True)
class Pruned:
    """A trained network of which a mask keeps some weights, and the others are zero.

    masks: layer name -> bool tensor over units; state: the whole network's parameters and buffers, by name.
    """

    model: ModelSpec
    remaining_ratio: float
    pattern: str
    masks: Mapping[str, Tensor]
    state: Mapping[str, Tensor]
    provenance: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """The file. Raises `TicketError` if a weight that the mask drops is not zero: the file would lose it."""
        parameters = dict(build_declared(self.model).named_parameters())
        tensors = {"mask": pack_masks(self.masks)}
        for name, value in self.state.items():
            mask = self.masks.get(name)
            if mask is None:
                tensors[f"{'parameter' if name in parameters else 'buffer'}/{name}"] = value
                continue
            kept = expand(mask, value).expand_as(value)
            if bool(value[~kept].any()):
                raise TicketError(f"weights of {name} that the mask drops are not zero")
            tensors[f"kept/{name}"] = value[kept]
        header = {
            "kind": KIND,
            "model": self.model.written(),
            "remaining_ratio": self.remaining_ratio,
            "pattern": self.pattern,
            "layers": layers_of(self.masks),
            "provenance": dict(self.provenance),
        }
        return pack(header, tensors)

    def network(self, load: LoadWeights | None = None) -> nn.Module:
        """A plain network in evaluation mode: images (N, C, H, W) in [0, 1] to logits (N, classes).

        load: not needed, its weights are its own; here so that it can be asked as a ticket is.
        """
        module = build_declared(self.model)
        module.load_state_dict(dict(self.state))
        return module.eval().requires_grad_(False)


class _Header(Spec):
    format: Literal[1]
    kind: Literal["pruned"]
    model: ModelSpec
    remaining_ratio: Ratio
    pattern: Literal[PATTERNS]  # type: ignore[valid-type]
    layers: tuple[tuple[str, tuple[int, ...], int], ...]
    provenance: dict[str, Any]
    digest: str


def read_pruned(data: bytes, where: str = "pruned network") -> Pruned:
    """Read a file of `Pruned`. Raises `TicketError`, naming `where`, if it is damaged or not one."""
    try:
        header, tensors = unpack(data, "pruned network", _Header)
        masks = unpack_masks(tensors.pop("mask", torch.zeros(0)), header.model, header.pattern, header.layers)
        state = _state(header.model, masks, tensors)
    except TicketError as error:
        raise TicketError(f"{where}: {error}") from error
    return Pruned(header.model, header.remaining_ratio, header.pattern, masks, state, header.provenance)


def _state(model: ModelSpec, masks: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    module = build_declared(model)
    weights, parameters, expected = maskable(module), dict(module.named_parameters()), module.state_dict()
    given = {name: part(tensors, f"{name}/") for name in ("kept", "parameter", "buffer")}
    free = {name: kind(value) for name, value in expected.items() if name not in weights}
    if (
        sum(map(len, given.values())) != len(tensors)
        or given["kept"].keys() != weights.keys()
        or not given["parameter"].keys() <= parameters.keys()
        or given["buffer"].keys() & parameters.keys()
        or {name: kind(value) for name, value in {**given["parameter"], **given["buffer"]}.items()} != free
    ):
        raise TicketError(f"its tensors are not those of a pruned {model.family}")
    state = {**expected, **given["parameter"], **given["buffer"]}
    for name, weight in weights.items():
        kept, values = expand(masks[name], weight).expand_as(weight), given["kept"][name]
        if values.shape != (int(kept.sum()),) or values.dtype != weight.dtype:
            raise TicketError(
                f"layer {name} holds {values.numel()} weights of {values.dtype}, not those its mask keeps"
            )
        state[name] = torch.zeros(weight.shape, dtype=weight.dtype)
        state[name][kept] = values
    return state
