"""What fp32 means when attacks are crafted and verdicts are given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_fp32(device: torch.device) -> Iterator[None]:
    """No autocast, no TF32 (torch's default in cuDNN's convolutions), and cuDNN's deterministic algorithms only.

    Settings of the process are put back afterwards.
    """
    matmul = torch.backends.cuda.matmul
    allowed = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            torch.autocast(device.type, enabled=False),
        ):
            yield
    finally:
        matmul.allow_tf32 = allowed
