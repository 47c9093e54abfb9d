"""Folders of small photographs: noise of any size and shape, as JPEG and PNG, so that resizing and cropping show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rstbench.data import sources
from rstbench.data.folders import Folder, FolderImages
from rstbench.data.streamed import StreamedImages
from rstbench.spec.models import DatasetSpec

CPU = torch.device("cpu")


def photos(root: Path, each: int = 8, classes: int = 2) -> Path:
    """Below root/photos, one folder for each class, whose images differ in brightness."""
    random = np.random.Generator(np.random.Philox(key=3))
    for label in range(classes):
        folder = root / "photos" / f"class_{label}"
        folder.mkdir(parents=True)
        for index in range(each):
            height, width = 12 + index % 5, 12 + (3 * index + label) % 7
            noise = random.integers(0, 90, (height, width, 3)) + 160 * label // max(classes - 1, 1)
            Image.fromarray(noise.astype(np.uint8)).save(folder / f"{index}{('.png', '.jpg')[index % 2]}")
    return root / "photos"


def folder(root: Path, side: int = 8, each: int = 8, classes: int = 2) -> Folder:
    photos(root, each, classes)
    found = sources.load(DatasetSpec(source="folder", name="photos", image_size=side), root)
    assert isinstance(found, Folder)
    return found


def streamed(images: FolderImages, workers: int = 0) -> StreamedImages:
    return StreamedImages(images, np.arange(len(images)), CPU, workers)
