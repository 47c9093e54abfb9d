"""Square windows, at a place of its own in each image of a batch, and the bumps that fill them under L2."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor


def inside(top: Tensor, left: Tensor, side: int, height: int, width: int) -> Tensor:
    """Which pixels lie in the window of each image: (N,), (N,) -> (N, 1, H, W) bool."""
    y = torch.arange(height, device=top.device)
    x = torch.arange(width, device=top.device)
    rows = (y >= top[:, None]) & (y < top[:, None] + side)
    columns = (x >= left[:, None]) & (x < left[:, None] + side)
    return rows[:, None, :, None] & columns[:, None, None, :]


def _places(top: Tensor, left: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Indices (image, row, column) that broadcast to (N, s, s)."""
    reach = torch.arange(side, device=top.device)
    images = torch.arange(len(top), device=top.device)[:, None, None]
    return images, (top[:, None] + reach)[:, :, None], (left[:, None] + reach)[:, None, :]


def cut(images: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """The window of each image (N, C, H, W) -> (N, C, s, s)."""
    which, rows, columns = _places(top, left, side)
    return images.permute(0, 2, 3, 1)[which, rows, columns].permute(0, 3, 1, 2)


def changed(images: Tensor, windows: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """The images (N, C, H, W) with windows (N, C, s, s) put into their places."""
    which, rows, columns = _places(top, left, windows.shape[2])
    result = images.permute(0, 2, 3, 1).clone()
    result[which, rows, columns] = windows.permute(0, 2, 3, 1)
    return result.permute(0, 3, 1, 2).contiguous()


@lru_cache(maxsize=64)
def bump(side: int) -> Tensor:
    """A hill over a valley, of equal L2 length, together of length 1 (s, s): Eq. (2) of Andriushchenko et al. 2020."""
    upper = side // 2
    return torch.cat([_hill(upper, side), -_hill(side - upper, side)]) / math.sqrt(2.0 if upper else 1.0)


@lru_cache(maxsize=64)
def bump_on(device: torch.device, side: int) -> Tensor:
    """`bump` on a device: copied there once, not for every query."""
    return bump(side).to(device)


def _hill(height: int, width: int) -> Tensor:
    """(h, w), of length 1: at the centre the sum of 1/k^2, k up to half the longer side; each ring lacks one more."""
    longest = max(height, width) // 2
    y = (torch.arange(height) - height // 2).abs()
    x = (torch.arange(width) - width // 2).abs()
    ring = torch.maximum(y[:, None], x[None, :]).clamp_max(longest + 1)
    terms = torch.cat([1.0 / torch.arange(1, longest + 2).float() ** 2, torch.zeros(1)])
    hill: Tensor = terms.flip(0).cumsum(0).flip(0)[ring]
    return hill / hill.norm() if height else hill
