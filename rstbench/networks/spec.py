"""What it takes to build a network: the suite's architecture plus what the data set says. No torch here."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from rstbench.spec.base import Count, Positive, Spec
from rstbench.spec.models import FAMILIES


class ModelSpec(Spec):
    """One network, completely described; equal specs build networks with equal parameter names and shapes."""

    family: Literal[FAMILIES]  # type: ignore[valid-type]
    width: Annotated[float, Field(gt=0.0, le=4.0, strict=False)] = Field(
        1.0, description="multiplier of every channel count; 1 is the family's published width"
    )
    classes: Annotated[int, Field(ge=2)]
    channels: Count = Field(3, description="of the images")
    image_size: Annotated[int, Field(ge=4, le=1024)] = Field(32, description="pixels a side")
    mean: Annotated[tuple[Annotated[float, Field(strict=False)], ...], Field(strict=False)] = Field(
        description="per channel, of images in [0, 1]"
    )
    std: Annotated[tuple[Positive, ...], Field(strict=False)] = Field(
        description="per channel, of images in [0, 1]; above 0"
    )
    bn_affine: bool = Field(False, description="whether batch norm learns a scale and a shift; tickets: no")
    classifier_bias: bool = Field(False, description="whether the classifier has a bias; tickets: no")
    last_bn_affine: bool = Field(
        False, description="whether the last batch norm learns a scale and a shift although the others may not"
    )

    later: ClassVar[frozenset[str]] = frozenset({"last_bn_affine"})

    @model_validator(mode="after")
    def _per_channel(self) -> ModelSpec:
        for field in ("mean", "std"):
            if len(getattr(self, field)) != self.channels:
                raise ValueError(f"{field} has {len(getattr(self, field))} values for {self.channels} channels")
        return self


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, to the nearest multiple of 4 (halves up), at least 4."""
    return max(4, 4 * math.floor(channels * width / 4 + 0.5))
