"""What a forward pass costs, from the spec alone: multiply-accumulates of its convolutions. No torch."""

from __future__ import annotations

import math

from rstbench.networks.spec import ModelSpec

# Multiply-accumulates of torchvision's ResNets on 224 x 224 images, as torchvision publishes them.
_IMAGENET_MACS = {"resnet18": 1.814e9, "resnet50": 4.089e9, "resnet101": 7.801e9}


def _scaled(channels: int, width: float) -> int:
    return max(4, 4 * math.floor(channels * width / 4 + 0.5))


def forward_macs(spec: ModelSpec) -> float:
    """Multiply-accumulates of one image's forward pass. Exact for our families up to the pooling; a guide, not a key."""
    if spec.family in _IMAGENET_MACS:
        return _IMAGENET_MACS[spec.family] * (spec.image_size / 224) ** 2
    if spec.family.startswith("wide_resnet"):
        widen = 10 * spec.width
        channels = [_scaled(c, widen) for c in (16, 32, 64)]
        stem, blocks, strides = _scaled(16, min(1.0, widen)), (int(spec.family[11:]) - 4) // 6, (1, 2, 2)
    else:
        channels = [_scaled(c, spec.width) for c in (64, 128, 256, 512)]
        stem, blocks, strides = channels[0], 1 if spec.family.endswith("10") else 2, (1, 2, 2, 2)
    size = spec.image_size
    macs = 9.0 * spec.channels * stem * size**2
    inputs = stem
    for outputs, first_stride in zip(channels, strides, strict=True):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            size = -(-size // stride)
            macs += 9 * (inputs * outputs + outputs * outputs) * size**2
            if stride != 1 or inputs != outputs:
                macs += inputs * outputs * size**2
            inputs = outputs
    return macs + inputs * spec.classes
