"""Small data sets that tests write to disk and then spoil."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Members = dict[str, Any]


def members(classes: int = 3, side: int = 6, channels: int = 3, train: int = 12, test: int = 6) -> Members:
    random = np.random.Philox(key=7)  # raw words: the golden fingerprint must outlive numpy's samplers

    def images(number: int) -> np.ndarray:
        shape = (number, side, side, channels)
        return (random.random_raw(math.prod(shape)) & 255).astype(np.uint8).reshape(shape)

    return {
        "train_images": images(train),
        "train_labels": np.arange(train, dtype=np.int64) % classes,
        "test_images": images(test),
        "test_labels": np.arange(test, dtype=np.int64) % classes,
    }


def paint(path: Path, width: int = 8, height: int = 8, value: int = 100, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (width, height), value if mode in ("L", "I;16") else (value,) * len(mode)).save(path)
    return path


def zoo(root: Path, parts: tuple[str, ...] = ("train", "test"), each: int = 2, mode: str = "RGB") -> Path:
    for part in parts:
        for label, name in enumerate(("ant", "bee")):
            for index in range(each):
                paint(root / "zoo" / part / name / f"{index}.png", value=50 * label + index, mode=mode)
    return root / "zoo"
