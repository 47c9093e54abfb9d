"""Training of the weights that a frozen mask keeps: fine-tuned and lottery tickets (paper, Sections 5.1 and 4.7)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rstbench.tickets.mask import expand, kept_units, maskable, select
from rstbench.training.subject import Weights


class MaskedWeights(Weights):
    """All parameters of a network, of which a mask keeps some: a `training.Subject`.

    What the mask drops is zero from the start and stays exactly that: its gradient is zero, and so are its momentum
    and its weight decay. The kept weights get the bits that they get where the whole network is optimised and
    multiplied by the mask before every step. Parameters that no mask covers are trained too.
    """

    def __init__(self, network: nn.Module, masks: Mapping[str, Tensor]) -> None:
        """masks: layer name -> bool tensor over units, for the layers that are masked; on any device."""
        super().__init__(network)
        self._dropped: dict[str, Tensor] = {}
        weights = maskable(network)
        with torch.no_grad():
            for name, mask in masks.items():
                weight = weights[name]
                self._dropped[name] = expand(~mask.to(weight.device), weight)
                weight.masked_fill_(self._dropped[name], 0.0)

    def collect_gradients(self) -> None:
        for name, dropped in self._dropped.items():
            gradient = self.variables[name].grad
            if gradient is not None:  # a layer that the forward pass does not reach has none
                gradient.masked_fill_(dropped, 0.0)


def magnitude_masks(network: nn.Module, remaining_ratio: float) -> dict[str, Tensor]:
    """Layer name -> bool mask of the weights that are largest by magnitude, as many of each layer as a ticket keeps.

    Every convolution and linear layer is pruned, the first one and the classifier included, to `kept_units` weights.
    Of equal magnitudes the later one stays (`mask.select`).
    """
    return {
        name: select(weight.detach().abs(), kept_units(weight.numel(), remaining_ratio))
        for name, weight in maskable(network).items()
    }
