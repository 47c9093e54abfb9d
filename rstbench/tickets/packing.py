"""Masks as files hold them: their bits in one row, compressed, and the layers they belong to."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from rstbench.errors import TicketError
from rstbench.networks.spec import ModelSpec
from rstbench.tickets.container import build_declared
from rstbench.tickets.mask import maskable, unit_shape

Layers = Sequence[tuple[str, tuple[int, ...], int]]
"""Name, shape of the mask over units, and units kept, layer by layer."""


def layers_of(masks: Mapping[str, Tensor]) -> list[list[object]]:
    """What a header says of the masks: `Layers`, as JSON has them."""
    return [[name, list(mask.shape), int(mask.sum())] for name, mask in masks.items()]


def pack_masks(masks: Mapping[str, Tensor]) -> Tensor:
    """The bits of all layers, most significant bit first, compressed with zlib, as a uint8 tensor."""
    bits = np.concatenate([mask.numpy().reshape(-1) for mask in masks.values()])
    packed = zlib.compress(np.packbits(bits).tobytes(), 9)
    return torch.frombuffer(bytearray(packed), dtype=torch.uint8)


def unpack_masks(packed: Tensor, model: ModelSpec, pattern: str, layers: Layers) -> dict[str, Tensor]:
    """Layer name -> bool tensor over units. Raises `TicketError` if the bits are not those of such layers."""
    # The shapes come from the network, not from the file, so that a hostile file cannot ask for more memory.
    weights = maskable(build_declared(model))
    shapes = {name: unit_shape(tuple(weight.shape), pattern) for name, weight in weights.items()}
    if list(shapes.items()) != [(name, shape) for name, shape, _ in layers]:
        raise TicketError(f"the mask's layers are not those of {model.family} at width {model.width:g}")
    units = sum(math.prod(shape) for shape in shapes.values())
    expected = (units + 7) // 8
    expander = zlib.decompressobj()
    try:
        raw = expander.decompress(packed.numpy().tobytes(), expected + 1)
    except (zlib.error, TypeError) as error:
        raise TicketError(f"the mask does not unpack ({error})") from error
    if len(raw) != expected or not expander.eof or expander.unused_data:
        raise TicketError(f"the mask unpacks to another number of bytes than the {expected} it needs")
    bits = np.unpackbits(np.frombuffer(raw, dtype=np.uint8), count=units).astype(bool)
    masks, offset = {}, 0
    for name, shape, kept in layers:
        size = math.prod(shape)
        masks[name] = torch.from_numpy(bits[offset : offset + size].reshape(shape).copy())
        offset += size
        if int(masks[name].sum()) != kept:
            raise TicketError(f"layer {name} keeps {int(masks[name].sum())} units, not the {kept} it declares")
    return masks
