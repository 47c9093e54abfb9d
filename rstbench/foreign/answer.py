"""What a classifier's answer has to look like, whoever made it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rstbench.errors import ModelError
from rstbench.foreign.wording import first_line


def answer(module: nn.Module, images: Tensor, where: str) -> Tensor:
    """The module's answer to images (N, C, H, W), shape (N, K), without gradients.

    Raises `ModelError`, naming `where`, if it does not take such images, or answers with anything but one row of
    floating-point numbers for each of them. Memory that runs out is nobody's fault here and passes through.
    """
    shape = " x ".join(map(str, images.shape))
    try:
        with torch.no_grad():
            found = module(images)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # code of others may fail in any way
        raise ModelError(
            f"{where}: fails on float32 images {shape} in [0, 1] on {images.device}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(found, Tensor):
        raise ModelError(f"{where}: answers with a {type(found).__name__}; a tensor of logits (N, classes) is expected")
    if found.ndim != 2 or len(found) != len(images):
        raise ModelError(
            f"{where}: answers images {shape} with a tensor {list(found.shape)}; [{len(images)}, classes] is expected"
        )
    if not found.is_floating_point():
        raise ModelError(
            f"{where}: answers with {found.dtype}; logits are floating-point numbers, not predicted classes"
        )
    return found
