from __future__ import annotations

from typing import Any

from rstbench.networks import ModelSpec


def spec(family: str, **changes: Any) -> ModelSpec:
    """A model for CIFAR-10, or with `changes`; three channels unless mean says otherwise."""
    fields: dict[str, Any] = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2471, 0.2435, 0.2616), "classes": 10}
    fields |= {"family": family} | changes
    fields["channels"] = len(fields["mean"])
    return ModelSpec(**fields)


def digits(family: str, **changes: Any) -> ModelSpec:
    """A model for 8x8 images of one channel."""
    return spec(family, **{"mean": (0.3,), "std": (0.37,), "image_size": 8} | changes)
