"""What a suite can ask of data and networks: leaves of the schema.

Every field that changes bits of a result is here and so in the keys of the store. Defaults are the paper's
setting (its text first, its authors' code where the text is silent); a comment names the source.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rstbench.spec.base import Name, Seed, Spec

SOURCES = ("digits", "digits20", "cifar10", "cifar100", "svhn", "mnist", "imagenet", "folder", "arrays")
FAMILIES = (
    "preact_resnet18", "preact_resnet10", "cifar_resnet18", "wide_resnet34", "wide_resnet16", "wide_resnet10",
    "resnet18", "resnet50", "resnet101",
)  # fmt: skip
INITS = ("signed_kaiming_constant", "kaiming_normal", "kaiming_uniform", "xavier_normal")
PATTERNS = ("element", "row", "kernel", "channel")


class DatasetSpec(Spec):
    """A data set and how it is cut. Content is identified by its fingerprint, not by this spec."""

    source: Literal[SOURCES]  # type: ignore[valid-type]
    name: Name | None = Field(None, description="folder or npz name inside the data directory (sources folder, arrays)")
    image_size: Annotated[int, Field(ge=4, le=1024)] | None = Field(
        None, description="pixels a side after resize and centre crop (sources imagenet, folder)"
    )
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.02, description="share of the training set, stratified, kept for choosing the best epoch"
    )
    validation_seed: Seed = 0

    @model_validator(mode="after")
    def _named(self) -> DatasetSpec:
        if (self.name is not None) != (self.source in ("folder", "arrays")):
            raise ValueError("`name` is needed by the sources folder and arrays, and allowed only there")
        return self


class NetworkSpec(Spec):
    """An architecture. Number of classes, image size and normalisation come from the data set.

    family `external`: whatever architecture a defense of kind `model` brings with it; no other defense can use it.
    """

    family: Literal[*FAMILIES, "external"]  # type: ignore[valid-type]
    width: Annotated[float, Field(gt=0.0, le=4.0)] = Field(
        1.0, description="multiplier of every channel count; 1 is the family's published width"
    )
