"""Networks of ours with all but the first layer and the classifier in bfloat16, weights cast once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rstbench.networks.folding import duplicate

LOW = torch.bfloat16


class Cast(nn.Module):
    """Values of any shape, in another floating-point type."""

    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, values: Tensor) -> Tensor:
        return values.to(self.kind)


def lowered(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode that computes in bfloat16 between its first layer and its pooling.

    network: of ours (`networks.folding.is_ours`), or what `folded` makes of one. Images (N, C, H, W) in [0, 1] and
    logits (N, classes) are float32, and so are normalisation, first convolution, average pool and classifier: cast to
    bfloat16, an image would lose what an attack has added to it (8 bits of a value near 1 are a step of 1/256).
    Convolutions hold weights and biases in bfloat16; a batch norm that was not folded keeps its constants in float32.
    """
    copied = duplicate(network)
    first, pool, last = ("stem", "pool", "classifier") if hasattr(copied, "stem") else ("conv1", "avgpool", "fc")
    for name, layer in copied.named_modules():
        if isinstance(layer, nn.Conv2d) and name not in (first, last):
            layer.to(LOW)
    copied.register_module(first, nn.Sequential(copied.get_submodule(first), Cast(LOW)))
    copied.register_module(pool, nn.Sequential(Cast(torch.float32), copied.get_submodule(pool)))
    return copied
