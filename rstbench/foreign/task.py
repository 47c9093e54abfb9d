"""What a model from elsewhere has to do here. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """The images that come, and the classes they fall into.

    Images are float32 (N, channels, image_size, image_size) in [0, 1]; `mean` and `std` (one value per channel) are
    the data set's, for models that normalise by them.
    """

    classes: int
    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
