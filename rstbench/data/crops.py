"""Torchvision's transforms for images: whole ones for evaluation, random crops for training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from rstbench.spec.training import Augmentation

if TYPE_CHECKING:
    from PIL.Image import Image

_REACH = 16
"""How many times longer than wide an image may be before its ends are cut off."""


def whole(picture: Image, side: int, shorter: int) -> Image:
    """The shorter side resized to `shorter` pixels (bilinear, antialiased), then the centre of `side` x `side`.

    Of a strip more than 16 times longer than wide, the ends are cut off first: a strip of 1 x 50 million pixels would
    grow without bound, and only its centre is wanted.
    """
    reach = _REACH * min(picture.size)
    if max(picture.size) > reach:
        picture = functional.center_crop(picture, [min(picture.height, reach), min(picture.width, reach)])
    resized = functional.resize(picture, [shorter], interpolation=v2.InterpolationMode.BILINEAR)
    centre: Image = functional.center_crop(resized, [side, side])
    return centre


def cropped(picture: Any, side: int, spec: Augmentation, seed: int) -> Any:
    """A random crop of `side` x `side` pixels and maybe its mirror image, after the spec; drawn from `seed` alone.

    picture: of Pillow, or a tensor (C, H, W). For padded_crop it has `side` x `side` pixels already. Torchvision draws
    from torch's global generator of the CPU, which is put back afterwards.
    """
    if spec.kind == "resized_crop":
        crop: v2.Transform = v2.RandomResizedCrop(side, scale=(spec.min_scale, 1.0))
    else:
        crop = v2.RandomCrop(side, padding=spec.padding)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        picture = crop(picture)
        return v2.RandomHorizontalFlip()(picture) if spec.flip else picture


def as_tensor(picture: Image) -> Tensor:
    """uint8 (C, H, W)."""
    tensor: Tensor = functional.pil_to_tensor(picture)
    return tensor
