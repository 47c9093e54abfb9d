"""Masks over the weights of any network: sparsity patterns, exact selection, and the straight-through estimator.

A *maskable* parameter is the weight of a convolution or a linear layer, whatever network it sits in. A *unit* is what
the mask keeps or drops together (paper, Section 4.5):

========  ==========================  =================
pattern   unit                        shape of scores
========  ==========================  =================
element   one weight                  that of the weight
row       one row of one kernel       (O, I, kH)
kernel    one kernel                  (O, I)
channel   all weights of one output   (O,)
========  ==========================  =================

A linear layer counts as a 1x1 convolution, so its rows and kernels are single weights.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_UNIT_DIMENSIONS = {"element": 4, "row": 3, "kernel": 2, "channel": 1}


def maskable(network: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> weight of every convolution and linear layer, in the order the network lists them."""
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
            found[f"{name}.weight" if name else "weight"] = module.weight
    return found


def unit_shape(weight_shape: tuple[int, ...], pattern: str) -> tuple[int, ...]:
    """Shape of the scores and of the mask of a weight of shape (O, I, ...) under a sparsity pattern."""
    return tuple(weight_shape[: _UNIT_DIMENSIONS[pattern]])


def kept_units(units: int, remaining_ratio: float) -> int:
    """How many of `units` stay: all but int((1 - ratio) * units), in double precision, as the authors' code counts."""
    return units - int((1.0 - remaining_ratio) * units)


def select(scores: Tensor, kept: int) -> Tensor:
    """Boolean mask, shape of `scores`, that keeps exactly `kept` units of the highest score.

    Equal scores are ranked by position, the later one higher: what a stable ascending sort that zeroes the front
    does, without sorting. Ties at the threshold are common (scores start on a grid of 2^-24), so this matters.
    """
    flat = scores.reshape(-1)
    dropped = flat.numel() - kept
    if dropped <= 0:
        return torch.ones_like(scores, dtype=torch.bool)
    if kept <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    if flat.device.type == "cpu":
        # numpy's introselect is several times faster here than torch.kthvalue or topk.
        values = flat.numpy()
        threshold = np.partition(values, dropped - 1)[dropped - 1]
        mask = torch.from_numpy(values > threshold)
        surplus_of_ties = kept - int(np.count_nonzero(mask.numpy()))
        if surplus_of_ties:
            ties = np.flatnonzero(values == threshold)
            mask.numpy()[ties[len(ties) - surplus_of_ties :]] = True
        return mask.view(scores.shape)
    # On a device: no value may travel to the host, so the ties are ranked by a cumulative count.
    threshold_on_device = torch.kthvalue(flat, dropped).values
    above = flat > threshold_on_device
    tied = flat == threshold_on_device
    missing = kept - above.sum()
    rank_from_the_end = tied.sum() - tied.cumsum(0)
    return (above | (tied & (rank_from_the_end < missing))).view(scores.shape)


def ranked(scores: Tensor, rank: str) -> Tensor:
    """What is ranked: |s| (`abs_score`, the authors' code) or s (`score`, the paper's text)."""
    return scores.abs() if rank == "abs_score" else scores


def expand(mask: Tensor, weight: Tensor) -> Tensor:
    """A mask over units as a view that broadcasts against `weight`."""
    return mask.view(*mask.shape, *([1] * (weight.dim() - mask.dim())))


def score_gradient(weight_gradient: Tensor, theta: Tensor, scores: Tensor, rank: str) -> Tensor:
    """Straight-through gradient of the scores: sign(s) * sum over the unit of theta * dL/dw.

    The mask enters the loss as w = theta * topk(|s|), and the estimator passes the mask's gradient on to |s| as if
    topk were the identity (paper, Section 3.2; edge-popup, Ramanujan et al. 2020). `rank="score"` has no sign.
    """
    gradient = weight_gradient * theta
    if scores.dim() < gradient.dim():
        gradient = gradient.sum(dim=tuple(range(scores.dim(), gradient.dim())))
    return gradient * scores.sign() if rank == "abs_score" else gradient
