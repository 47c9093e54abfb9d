"""How many units each layer of a ticket keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from rstbench.tickets.mask import kept_units, unit_shape


def layer_ratios(sizes: Sequence[int], ratio: float, power: float) -> list[float]:
    """Remaining ratio of every layer, each in (0, 1], in the order of `sizes`, the layers' numbers of weights.

    ratio in (0, 1]: of all weights together. power p in [0, 1]: r_l = c * n_l^(p - 1), capped at 1, with c such that
    the sum of r_l * n_l is ratio times the sum of n_l; a layer thus keeps c * n_l^p weights. 1 is the paper's uniform
    ratio, given back to the last bit; 0 keeps equal numbers in all layers that are large enough. What small layers
    cannot take falls to the others by the same law. Of two ratios the larger one is larger in every layer, so masks
    of one score vector stay nested.

    Source: Liu et al., "Robust Binary Models by Pruning Randomly-initialized Networks" (NeurIPS 2022), at best with
    p = 0.1.
    """
    if power == 1.0 or ratio >= 1.0:
        return [ratio] * len(sizes)
    shares = [size**power for size in sizes]
    # The law caps small layers first: in order of size, a layer is full once c * n^(p - 1) reaches 1.
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    budget, open_shares = ratio * math.fsum(sizes), math.fsum(shares)
    ratios = [1.0] * len(sizes)
    for place, layer in enumerate(order):
        scale = budget / open_shares
        if scale * shares[layer] < sizes[layer]:
            for rest in order[place:]:
                ratios[rest] = scale * shares[rest] / sizes[rest]
            break
        budget -= sizes[layer]
        open_shares = math.fsum(shares[rest] for rest in order[place + 1 :])
    return ratios


def kept_by_layer(weights: dict[str, Tensor], ratio: float, pattern: str, power: float) -> dict[str, int]:
    """Layer name -> units that stay (`mask.kept_units` of its ratio), for weights by layer name.

    Whole units are kept, so with a power below 1 the total differs from that of the uniform ratio by less than one
    unit a layer.
    """
    ratios = layer_ratios([weight.numel() for weight in weights.values()], ratio, power)
    return {
        name: kept_units(math.prod(unit_shape(tuple(weight.shape), pattern)), of_layer)
        for (name, weight), of_layer in zip(weights.items(), ratios, strict=True)
    }
