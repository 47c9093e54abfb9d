"""What network files take, and how much their masks have in common."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping

from torch import Tensor

from rstbench.errors import TicketError
from rstbench.tickets.container import build_declared
from rstbench.tickets.files import NetworkFile
from rstbench.tickets.mask import expand, maskable
from rstbench.tickets.pruned import Pruned
from rstbench.tickets.ticket import Ticket
from rstbench.tickets.weights import TrainedWeights, class_parameters

FP32_BYTES = 4


def mask_bytes(data: bytes) -> int:
    """Bytes of the mask in a network file as it is stored, that is compressed; 0 where the file has none."""
    size = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8 : 8 + size]).get("mask")
    if entry is None:
        return 0
    begin, end = entry["data_offsets"]
    return int(end) - int(begin)


def raw_mask_bytes(file: NetworkFile) -> int:
    """Bytes of a mask of one bit for each weight that is masked, whatever its pattern; 0 for a dense network."""
    if not isinstance(file, Ticket | Pruned):
        return 0
    bits = sum(weight.numel() for weight in maskable(build_declared(file.model)).values())
    return -(-bits // 8)


def weight_bytes(file: NetworkFile) -> int:
    """Bytes of all parameters of the file's network in fp32, as if no mask had dropped any. Buffers do not count."""
    return FP32_BYTES * sum(parameter.numel() for parameter in build_declared(file.model).parameters())


def weights_drawn_from(file: NetworkFile, key: str, checkpoint: str) -> dict[Hashable, int]:
    """Bytes in fp32 of the parameters that a network is drawn from, by what makes them equal, whoever draws from them.

    Random weights are the same under equal initialisation, seed, name and shape (`networks.init`), also in networks
    with other classifiers; trained ones are those of their checkpoint. key, checkpoint: where the file is stored; its
    weights are its own if it is dense or pruned.
    """
    shapes = {name: tuple(value.shape) for name, value in build_declared(file.model).named_parameters()}
    weights = file.weights if isinstance(file, Ticket) else None

    def origin(name: str) -> Hashable:
        if weights is None:
            return (key, checkpoint, name)
        if isinstance(weights, TrainedWeights) and name not in drawn:
            return (weights.key, weights.checkpoint, name)
        return (weights.init, weights.seed, name, shapes[name])

    anew = isinstance(weights, TrainedWeights) and weights.classifier == "reinitialised"
    drawn = class_parameters(file.model) if anew else frozenset()
    return {origin(name): FP32_BYTES * math.prod(shape) for name, shape in shapes.items()}


def masked_weights(file: NetworkFile, where: str) -> dict[str, Tensor]:
    """Layer name -> which weights stay, bool in the shape of the weight.

    Raises `TicketError`, naming `where`, for a dense network.
    """
    if not isinstance(file, Ticket | Pruned):
        raise TicketError(f"{where}: a dense network has no mask, so there is no overlap to measure")
    weights = maskable(build_declared(file.model))
    return {name: expand(mask, weights[name]).expand_as(weights[name]) for name, mask in file.masks.items()}


def overlap(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """|A and B| / |A or B| in [0, 1] over the weights that two masks (`masked_weights`) keep, all layers together.

    Two masks that keep nothing are equal: 1. Raises `TicketError` if they are of different layers.
    """
    if {name: mask.shape for name, mask in one.items()} != {name: mask.shape for name, mask in other.items()}:
        raise TicketError("the masks are of different networks, so their overlap is not defined")
    both = sum(int((mask & other[name]).sum()) for name, mask in one.items())
    either = sum(int((mask | other[name]).sum()) for name, mask in one.items())
    return both / either if either else 1.0


def chance_overlap(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """What `overlap` comes to, in the mean over large layers, if the masks keep as many weights at random."""
    both = either = 0.0
    for name, mask in one.items():
        n = mask.numel()
        p, q = int(mask.sum()) / n, int(other[name].sum()) / n
        both += n * p * q
        either += n * (p + q - p * q)
    return both / either if either else 1.0
