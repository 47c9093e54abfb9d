"""How many parameters a network has, and how many a ticket keeps: the rule behind every count that we report.

The rule: all parameters count, the classifier included, batch-norm scale and shift where the network has them; buffers
do not. A ticket keeps, layer by layer, `ratios.kept_by_layer` of the units of every convolution and linear layer, and
all parameters that no mask covers.

The paper's Table 1 (11.17, 9.41 and 10.62 M) cannot be met by this rule with ImageNet's networks: its counts are those
of ResNets with a CIFAR stem and ten classes. We report ours and show the difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from rstbench.tickets.mask import maskable, unit_shape
from rstbench.tickets.ratios import kept_by_layer


@dataclass(frozen=True)
class Count:
    """Parameters in all, under masks, and kept at a remaining ratio (all of them at ratio 1)."""

    parameters: int
    maskable: int
    kept: int


def count(
    network: nn.Module, remaining_ratio: float = 1.0, pattern: str = "element", layer_power: float = 1.0
) -> Count:
    """Count a network's parameters, and what a ticket of `remaining_ratio` in (0, 1] would keep of them.

    layer_power: of the power law of layer ratios (`ratios.layer_ratios`); 1 is the paper's uniform ratio.
    """
    parameters = sum(parameter.numel() for parameter in network.parameters())
    weights = maskable(network)
    masked = kept = 0
    for name, units in kept_by_layer(weights, remaining_ratio, pattern, layer_power).items():
        weight = weights[name]
        masked += weight.numel()
        kept += units * (weight.numel() // math.prod(unit_shape(tuple(weight.shape), pattern)))
    return Count(parameters, masked, parameters - masked + kept)
