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

import torch
from torch import Tensor, nn

from rstbench.tickets.selection import blocks, select_on_host


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
    NaN, in a run that diverges, counts as infinity. On a CPU the mask lies in memory as the scores do.
    """
    dropped = scores.numel() - kept
    if dropped <= 0:
        return torch.ones_like(scores, dtype=torch.bool)
    if kept <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    if scores.device.type == "cpu":
        return select_on_host(scores, dropped)
    return _select_on_device(scores.reshape(-1), dropped).view(scores.shape)


def _select_on_device(flat: Tensor, dropped: int) -> Tensor:
    # No value may travel to the host, where waiting for it would stall the device: ties are ranked by their count.
    # Unsorted topk has many blocks of a GPU work on one layer, kthvalue only one; of the smaller side, as it copies.
    flat = flat.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    kept = len(flat) - dropped
    if dropped <= kept:
        threshold = flat.topk(dropped, largest=False, sorted=False).values.max()
    else:
        threshold = flat.topk(kept, sorted=False).values.min()
    above = flat > threshold
    tied = flat == threshold
    missing = kept - above.sum()
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
    `weight_gradient` is overwritten, and may be what is returned.
    """
    if scores.dim() == theta.dim():
        for gradient, frozen, each in blocks(weight_gradient, theta, scores):
            gradient.mul_(frozen)
            if rank == "abs_score":
                gradient.mul_(each.sign())
        return weight_gradient
    gradient = weight_gradient.mul_(theta).sum(dim=tuple(range(scores.dim(), theta.dim())))
    return gradient * scores.sign() if rank == "abs_score" else gradient
