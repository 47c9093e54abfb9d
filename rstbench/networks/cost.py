"""What a forward pass costs, from the spec alone: multiply-accumulates of its convolutions. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from rstbench.networks.spec import ModelSpec, scaled

# Multiply-accumulates of torchvision's ResNets on images of 224 x 224 pixels, as torchvision publishes them.
_IMAGENET_MACS = {"resnet18": 1.814e9, "resnet50": 4.089e9, "resnet101": 7.801e9}


@dataclass(frozen=True)
class _Shape:
    """Channels of the stem, channels and stride of each stage, blocks in a stage."""

    stem: int
    stages: tuple[tuple[int, int], ...]
    blocks: int


def _shape(spec: ModelSpec) -> _Shape:
    if spec.family.startswith("wide_resnet"):
        widen = 10 * spec.width
        wide = [scaled(channels, widen) for channels in (16, 32, 64)]
        depth = int(spec.family.removeprefix("wide_resnet"))
        return _Shape(scaled(16, min(1.0, widen)), tuple(zip(wide, (1, 2, 2), strict=True)), (depth - 4) // 6)
    base = [scaled(channels, spec.width) for channels in (64, 128, 256, 512)]
    return _Shape(base[0], tuple(zip(base, (1, 2, 2, 2), strict=True)), 1 if spec.family.endswith("10") else 2)


def forward_macs(spec: ModelSpec) -> float:
    """Multiply-accumulates of one image's forward pass: exact for our families, within 2 % for torchvision's.

    It is a guide for people and never part of a key. Torchvision's networks are scaled from images of 224 x 224 pixels
    with 1000 classes, so on small images, where every layer rounds its size up, the guide is too low.
    """
    if spec.family in _IMAGENET_MACS:
        return _IMAGENET_MACS[spec.family] * (spec.width * spec.image_size / 224) ** 2
    shape = _shape(spec)
    size = spec.image_size
    inputs = shape.stem
    macs = 9.0 * spec.channels * inputs * size**2
    for outputs, first_stride in shape.stages:
        for block in range(shape.blocks):
            stride = first_stride if block == 0 else 1
            size = -(-size // stride)
            macs += 9.0 * (inputs * outputs + outputs * outputs) * size**2
            if stride != 1 or inputs != outputs:
                macs += inputs * outputs * size**2
            inputs = outputs
    return macs + inputs * spec.classes
