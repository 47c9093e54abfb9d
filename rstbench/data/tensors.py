"""Images on the device: uint8 there, augmented there, made float only for the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rstbench.spec.training import Augmentation


def to_device(images: NDArray[np.uint8], device: torch.device | str) -> Tensor:
    """uint8 (N, H, W, C) from numpy as a contiguous uint8 (N, C, H, W) tensor on `device`; always a copy."""
    array: NDArray[Any] = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    if np.shares_memory(array, images):  # one channel, or one pixel: the transposition was a view
        array = array.copy()
    return torch.from_numpy(array).to(device)


def as_float(images: Tensor) -> Tensor:
    """uint8 of any shape as float32 in [0, 1], value / 255, with the same bits on every device."""
    # Divided by a tensor of the device: by a Python number, CUDA multiplies with the rounded reciprocal instead.
    return images.to(torch.float32).div_(torch.full((), 255.0, device=images.device))


def delivered(values: Tensor, device: torch.device) -> Tensor:
    """`values` on `device`: from a CPU to a GPU through pinned memory, so that the host goes on at once."""
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def augment(images: Tensor, spec: Augmentation, generator: torch.Generator) -> Tensor:
    """Crop every image at random, after zero padding or to be resized, and mirror it with probability one half.

    `images` uint8 (N, C, H, W), left unchanged; returns the same shape, dtype and device. Padding is black pixels,
    before any normalisation. One random number per image is drawn on the generator's own device and then moved, so a
    CPU generator gives the same padded crops on every device. Nothing is drawn if `spec` asks for nothing. Resized
    crops are made one by one, from seeds drawn in the same way; how resizing rounds may differ between devices.
    """
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise TypeError(f"uint8 images (N, C, H, W) expected, not {images.dtype} {tuple(images.shape)}")
    if spec.kind == "resized_crop":
        return _resized(images, spec, generator)
    shifts = 2 * spec.padding + 1
    cases = shifts * shifts * (2 if spec.flip else 1)
    if cases == 1 or len(images) == 0:
        return images
    case = torch.randint(cases, (len(images),), generator=generator, device=generator.device)
    case = delivered(case, images.device)
    down, right, mirrored = case // shifts % shifts, case % shifts, case >= shifts * shifts
    if spec.flip:
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    if spec.padding:
        height, width = images.shape[2:]
        padded = torch.nn.functional.pad(images, (spec.padding,) * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (N, C, shifts, shifts, H, W)
        rows = torch.arange(len(images), device=images.device)
        images = windows[rows, :, down, right]
    return images


def _resized(images: Tensor, spec: Augmentation, generator: torch.Generator) -> Tensor:
    from rstbench.data.crops import cropped  # torchvision: a second that only those pay who ask for this

    if images.shape[2] != images.shape[3]:
        raise TypeError(f"square images expected, not {tuple(images.shape)}")
    seeds = torch.randint(2**62, (len(images),), generator=generator, device=generator.device).tolist()
    crops = [cropped(image, images.shape[3], spec, seed) for image, seed in zip(images, seeds, strict=True)]
    return torch.stack(crops) if crops else images
