"""What is known about each source of data before anything is read. No torch, no numpy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SourceInfo:
    """Facts of one source; None where only the data tells.

    `size` is the side of the square images in pixels. `mean` and `std` belong to images in [0, 1] and have one value
    per channel, or a single one that holds for every channel (`normalisation` spells it out).
    """

    title: str
    classes: int | None
    channels: int | None
    size: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    note: str
    samples: tuple[int, int] | None = None
    """Published numbers of training and test images."""

    def normalisation(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation with exactly `channels` values each."""
        mean = self.mean * channels if len(self.mean) == 1 else self.mean
        std = self.std * channels if len(self.std) == 1 else self.std
        if len(mean) != channels or len(std) != channels:
            raise ValueError(f"{self.title} is normalised for {len(mean)} channels, not {channels}")
        return mean, std


_HALF = (0.5,)
_CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
_CIFAR_STD = (0.2471, 0.2435, 0.2616)

INFO: dict[str, SourceInfo] = {
    "digits": SourceInfo(
        "scikit-learn digits", 10, 1, 8, _HALF, _HALF,
        "1797 handwritten digits that come with scikit-learn; no published normalisation, .5/.5 is our choice",
    ),
    "digits20": SourceInfo(
        "scikit-learn digits, upright and turned", 20, 1, 8, _HALF, _HALF,
        "the digits upright (classes 0-9) and turned by a quarter (10-19); normalised as digits",
    ),
    "cifar10": SourceInfo(
        "CIFAR-10", 10, 3, 32, _CIFAR_MEAN, _CIFAR_STD, "normalisation of the paper's authors", (50_000, 10_000),
    ),
    "cifar100": SourceInfo(
        "CIFAR-100", 100, 3, 32, _CIFAR_MEAN, _CIFAR_STD,
        "normalised by CIFAR-10's statistics, as the paper's authors do", (50_000, 10_000),
    ),
    "svhn": SourceInfo(
        "SVHN", 10, 3, 32, _HALF, _HALF, "cropped digits, without the `extra` part; normalised .5/.5 by the authors",
        (73_257, 26_032),
    ),
    "mnist": SourceInfo(
        "MNIST", 10, 1, 28, (0.1307,), (0.3081,), "mean and deviation of its training images", (60_000, 10_000),
    ),
    "imagenet": SourceInfo(
        "ImageNet", 1000, 3, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225),
        "folders imagenet/train/WNID and imagenet/val/WNID; `image_size` changes the 224 pixels", (1_281_167, 50_000),
    ),
    "folder": SourceInfo(
        "folder of images", None, None, None, _HALF, _HALF, "one folder per class; normalised .5/.5 in every channel",
    ),
    "arrays": SourceInfo(
        "arrays", None, None, None, _HALF, _HALF, "NAME.npz with four arrays; normalised .5/.5 in every channel",
    ),
}  # fmt: skip
"""Facts by `DatasetSpec.source`."""
