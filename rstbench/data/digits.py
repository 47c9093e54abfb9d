"""scikit-learn's handwritten digits: real images that come with a dependency."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rstbench.data.arrays import Arrays
from rstbench.data.cuts import split

TEST_FRACTION = 0.2
TEST_SEED = 2021
"""The data have no official test part; this cut, stratified by digit, is ours and never changes."""


def read(turned: bool) -> Arrays:
    """1438 training and 359 test images of 8x8 pixels, uint8: scikit-learn's 0..16 as round(v * 255 / 16).

    `turned`: in twenty classes, upright (0-9) and turned by a quarter counter-clockwise (10-19); an image and its
    turned copy lie on the same side of the cut.
    """
    rows = _rows()
    images = np.rint(rows[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)[..., None]
    labels = rows[:, 64].astype(np.int64)
    train, test = split(labels, TEST_FRACTION, TEST_SEED)
    note = f"digits: our own stratified cut, {TEST_FRACTION:.0%} test, seed {TEST_SEED}"
    if not turned:
        return Arrays(images[train], labels[train], images[test], labels[test], 10, (note,))
    return Arrays(
        _with_turned(images[train]),
        np.concatenate([labels[train], labels[train] + 10]),
        _with_turned(images[test]),
        np.concatenate([labels[test], labels[test] + 10]),
        20,
        (note,),
    )


def _rows() -> NDArray[np.float64]:
    """64 pixels and the label of every image, in scikit-learn's order."""
    package = distribution("scikit-learn")
    file = Path(str(package.locate_file("sklearn/datasets/data/digits.csv.gz")))
    if file.is_file():
        # Importing scikit-learn for these 57 kB costs every worker a second and 150 MB.
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    raw = load_digits()
    return np.column_stack([np.asarray(raw.data), np.asarray(raw.target)])


def _with_turned(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.concatenate([images, np.rot90(images, axes=(1, 2))]))
