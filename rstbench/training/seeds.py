"""Seeds derived from what they are for, so that streams never depend on the order of the work."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2^63) from any printable parts; equal parts give equal seeds everywhere."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(*parts: object) -> torch.Generator:
    """A CPU generator seeded from the parts."""
    return torch.Generator().manual_seed(derive_seed(*parts))
