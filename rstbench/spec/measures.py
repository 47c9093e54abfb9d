"""What a cell can measure of a defense beside its accuracy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rstbench.spec.base import Count, LinfDistance, Name, Spec


class _Measure(Spec):
    report_as: Name | None = Field(None, description="name in the table's `metric` column; default: the kind's own")
    variant: str = Field("", max_length=60, description="tells rows apart that are otherwise the same")
    of_epsilon: LinfDistance | None = Field(
        None, description="what the defense was trained for, where rows differ by it; written into the row's `eps`"
    )


class ParametersSpec(_Measure):
    """Parameters that the defense keeps, in millions, by the rule of `tickets.count`. Nothing is trained for it."""

    kind: Literal["parameters"]


class BytesSpec(_Measure):
    """Bytes that the defense takes where it is stored. What members share is counted once.

    of: `files` (what our files take: seed, entropy-coded mask, batch-norm buffers, or fp32 weights), `masks` (the masks
    alone, as stored), `raw_masks` (one bit for each weight that is masked), `shared_weights` (fp32 of the weights that
    members are drawn from, equal random weights once), `separate_weights` (fp32 weights of each member for itself: what
    a defense without sharing takes).
    """

    kind: Literal["bytes"]
    of: Literal["files", "masks", "raw_masks", "shared_weights", "separate_weights"] = "files"
    over: Annotated[tuple[Name, ...], Field(strict=False)] = Field(
        (), description="keys in `datasets`: the same defense for all of these tasks together; default: the cell's own"
    )


class FeatureDistanceSpec(_Measure):
    """Distance between the feature maps of clean and noisy images (paper, Figure 4).

    Of the last convolution's output z: |z(x + noise) - z(x)|_2 / |z(x)|_2, image by image. The paper says "normalised"
    and "magnitude epsilon" without a definition; this is ours.
    """

    kind: Literal["feature_distance"]
    epsilon: LinfDistance = "8/255"
    noise: Literal["uniform", "sign"] = Field(
        "uniform", description="uniform in the ball, or a random sign times epsilon, clipped to valid pixels"
    )
    samples: Count | None = Field(None, description="test images, stratified; default: all")
    batch: Count = 256


class MaskOverlapSpec(_Measure):
    """Mean overlap of the masks of every pair of a switch's members: |A and B| / |A or B| over all layers."""

    kind: Literal["mask_overlap"]


MeasureSpec = Annotated[ParametersSpec | BytesSpec | FeatureDistanceSpec | MaskOverlapSpec, Field(discriminator="kind")]
METRICS = {
    "parameters": "params_m",
    "bytes": "bytes",
    "feature_distance": "feature_distance",
    "mask_overlap": "mask_overlap",
}
"""Name of each kind in the table's `metric` column."""
NOT_MEASURED = {"report_as", "variant", "of_epsilon", "over"}
"""Fields of a measure that say how its row is called, not what is measured."""
