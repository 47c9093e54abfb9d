"""The margin loss of Carlini and Wagner."""

from __future__ import annotations

from torch import Tensor


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The greatest logit of another class minus the label's, (N, C), (N,) -> (N,); C at least 2.

    Above zero where the label is not predicted. Where rivals tie, the gradient is that of one of them, not their mean,
    which could vanish. Source: Carlini and Wagner 2017, Section V-A, f_6 without its bounds, the sign turned so that an
    attacker maximises it.
    """
    own = labels.unsqueeze(1)
    rivals = logits.scatter(1, own, float("-inf")).max(dim=1).values
    return rivals - logits.gather(1, own).squeeze(1)
