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

A linear layer counts as a 1x1 convolution, so its rows and kernels are single weights. A row runs along the last
dimension of the kernel; other convolutions than 2-d ones follow from that.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


def maskable(network: nn.Module) -> dict[str, Tensor]:
    """Name -> weight of every convolution and linear layer, in the order the network lists them."""
    found: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
            found[f"{name}.weight" if name else "weight"] = module.weight
    return found


def unit_shape(weight_shape: tuple[int, ...], pattern: str) -> tuple[int, ...]:
    """Shape of the scores and of the mask of a weight of shape (O, I, ...) under a sparsity pattern."""
    dimensions = len(weight_shape)
    return weight_shape[: {"element": dimensions, "row": max(dimensions - 1, 2), "kernel": 2, "channel": 1}[pattern]]


def kept_units(units: int, remaining_ratio: float) -> int:
    """How many of `units` stay: all but int((1 - ratio) * units), in double precision, as the authors' code counts."""
    return units - int((1.0 - remaining_ratio) * units)


def select(scores: Tensor, kept: int) -> Tensor:
    """Boolean mask, shape of `scores`, that keeps exactly `kept` units of the highest score.

    Equal scores are ranked by position, the later one higher: what a stable ascending sort that zeroes the front
    does, without sorting. Ties at the threshold are common (scores start on a grid of 2^-24), so this matters.
    NaN, in a run that diverges, counts as infinity.
    """
    dropped = scores.numel() - kept
    if dropped <= 0:
        return torch.ones_like(scores, dtype=torch.bool)
    if kept <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    flat = scores.reshape(-1).nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    choose = _select_on_host if flat.device.type == "cpu" else _select_on_device
    return choose(flat, dropped).view(scores.shape)


def _select_on_host(flat: Tensor, dropped: int) -> Tensor:
    # numpy's introselect is several times faster here than torch.kthvalue or topk.
    values = flat.numpy()
    threshold = np.partition(values, dropped - 1)[dropped - 1]
    mask = values > threshold
    missing = len(values) - dropped - int(np.count_nonzero(mask))
    if missing:
        mask[np.flatnonzero(values == threshold)[-missing:]] = True
    return torch.from_numpy(mask)


def _select_on_device(flat: Tensor, dropped: int) -> Tensor:
    # No value may travel to the host, where waiting for it would stall the device: ties are ranked by their count.
    threshold = torch.kthvalue(flat, dropped).values
    above = flat > threshold
    tied = flat == threshold
    missing = len(flat) - dropped - above.sum()
    return above | (tied & (tied.sum() - tied.cumsum(0) < missing))


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
