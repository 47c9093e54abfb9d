"""A linear classifier, images whose verdict under attack is known exactly, and the budget."""

from __future__ import annotations

import torch

from rstbench.attacks.threat import Threat
from tests.attacks.networks import images, linear
from tests.gauntlet.planted import eight_bit, falls

PIXELS, CLASSES, COUNT = 48, 5, 64
THREAT = Threat("linf", 0.015)
WEIGHT = torch.randn(CLASSES, PIXELS, generator=torch.Generator().manual_seed(1)) * 3
BIAS = -WEIGHT.sum(1) / 2
HONEST = linear(WEIGHT, BIAS)
INPUTS = eight_bit(0.2 + 0.6 * images(COUNT, side=4))
LABELS = HONEST(INPUTS).argmax(1)
LABELS[:4] = (LABELS[:4] + 1) % CLASSES
RIGHT = HONEST(INPUTS).argmax(1) == LABELS
FALLS = falls(WEIGHT, BIAS, INPUTS, LABELS, THREAT)
