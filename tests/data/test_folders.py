from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rstbench.data import folders
from rstbench.data.info import INFO
from rstbench.data.sources import load
from rstbench.errors import DataError
from rstbench.spec.models import DatasetSpec
from tests.data.made import paint, zoo


def spec(image_size: int | None = None) -> DatasetSpec:
    return DatasetSpec(source="folder", name="zoo", image_size=image_size)


def failure(directory: Path, image_size: int | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load(spec(image_size), directory)
    return str(caught.value)


@pytest.mark.parametrize("second", ["test", "val"])
def test_two_parts_and_sorted_classes(tmp_path: Path, second: str) -> None:
    root = zoo(tmp_path, ("train", second))
    (root / "train" / "bee" / "notes.txt").write_text("no image")
    (root / "train" / "bee" / "._0.png").write_text("left by another system")
    (root / "train" / ".cache").mkdir()
    arrays = load(spec(), tmp_path)
    assert arrays.train_images.shape == (4, 8, 8, 3) and arrays.notes == ()
    assert arrays.train_labels.tolist() == arrays.test_labels.tolist() == [0, 0, 1, 1]
    assert arrays.train_images[:, 0, 0, 0].tolist() == [0, 1, 50, 51]


def test_class_folders_alone_are_cut(tmp_path: Path) -> None:
    zoo(tmp_path, ("",), each=10)
    arrays = load(spec(), tmp_path)
    assert len(arrays.train_labels) == 16 and np.bincount(arrays.test_labels).tolist() == [2, 2]
    assert arrays.notes == ("zoo: no train and test folders; our own stratified cut, 20% test, seed 2021",)
    every = np.concatenate([arrays.train_images, arrays.test_images])[:, 0, 0, 0]
    assert sorted(every) == [*range(10), *range(50, 60)]


def test_grey_images_stay_grey_unless_mixed(tmp_path: Path) -> None:
    root = zoo(tmp_path, mode="L")
    assert load(spec(), tmp_path).train_images.shape[3] == 1
    paint(root / "test" / "ant" / "colour.png")
    assert load(spec(), tmp_path).train_images.shape[3] == 3


def test_resize_and_centre_crop(tmp_path: Path) -> None:
    root = zoo(tmp_path)
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = 200
    Image.fromarray(wide).save(root / "train" / "ant" / "0.png")
    arrays = load(spec(8), tmp_path)
    assert (arrays.train_images[0] == 200).all()
    assert load(spec(4), tmp_path).train_images.shape == (4, 4, 4, 3)


def test_an_extreme_strip_is_cut_before_it_is_enlarged(tmp_path: Path) -> None:
    root = zoo(tmp_path)
    paint(root / "train" / "ant" / "0.png", 20_000, 2, value=77)
    paint(root / "train" / "ant" / "1.png", 2, 20_000, value=78)
    arrays = load(spec(32), tmp_path)
    assert (arrays.train_images[0] == 77).all() and (arrays.train_images[1] == 78).all()


def test_unequal_images_need_an_image_size(tmp_path: Path) -> None:
    root = zoo(tmp_path)
    paint(root / "test" / "bee" / "1.png", 9, 8)
    assert "bee/1.png: 9x8 pixels" in failure(tmp_path) and "image_size" in failure(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n broken", b"not an image"])
def test_a_broken_image_is_named(tmp_path: Path, content: bytes) -> None:
    (zoo(tmp_path) / "test" / "bee" / "1.png").write_bytes(content)
    assert "bee/1.png: not a readable image" in failure(tmp_path)


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    noise = np.random.Generator(np.random.Philox(key=1)).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    path = zoo(tmp_path) / "test" / "bee" / "1.png"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:120])
    assert "bee/1.png: not a readable image" in failure(tmp_path)


def test_deep_pixels_are_refused(tmp_path: Path) -> None:
    paint(zoo(tmp_path) / "train" / "ant" / "0.png", value=40_000, mode="I;16")
    assert "8 bits a channel" in failure(tmp_path)


@pytest.mark.parametrize("limit", [("rstbench.data.folders.MAX_PIXELS", 63), ("PIL.Image.MAX_IMAGE_PIXELS", 31)])
def test_pixel_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: tuple[str, int]) -> None:
    zoo(tmp_path)
    monkeypatch.setattr(*limit)
    assert "pixels" in failure(tmp_path) and "ant/0.png" in failure(tmp_path)


def test_too_many_images_for_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo(tmp_path)
    monkeypatch.setattr("rstbench.data.arrays.available_memory", lambda: 1500)
    monkeypatch.setattr(folders, "_decode", lambda *_: pytest.fail("decoded"))
    assert "8 images at 8x8x3" in failure(tmp_path) and "image_size" in failure(tmp_path)


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    root.mkdir()
    assert "no class folders" in failure(tmp_path)
    (root / "ant").mkdir()
    assert "ant: holds no images" in failure(tmp_path)
    paint(root / "train" / "ant" / "0.png")
    assert "neither test nor val" in failure(tmp_path)
    (root / "test").mkdir()
    assert "test: holds no images" in failure(tmp_path)
    paint(root / "test" / "wasp" / "0.png")
    assert "wasp: no such class" in failure(tmp_path)


def test_test_without_train(tmp_path: Path) -> None:
    zoo(tmp_path, ("test",))
    assert "train is missing" in failure(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_listed(tmp_path: Path) -> None:
    folder = zoo(tmp_path) / "train" / "ant"
    folder.chmod(0)
    try:
        assert "cannot be read" in failure(tmp_path)
    finally:
        folder.chmod(0o700)


def test_imagenet_wants_its_thousand_classes(tmp_path: Path) -> None:
    root = zoo(tmp_path, ("train", "val"))
    root.rename(tmp_path / "imagenet")
    with pytest.raises(DataError, match="2 class folders, ImageNet has 1000"):
        load(DatasetSpec(source="imagenet"), tmp_path)


def test_imagenet_resizes_to_eight_sevenths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setitem(INFO, "imagenet", replace(INFO["imagenet"], classes=2, size=None))
    zoo(tmp_path, ("train", "val")).rename(tmp_path / "imagenet")
    framed = np.full((16, 16, 3), 255, dtype=np.uint8)
    framed[1:15, 1:15] = 10
    Image.fromarray(framed).save(tmp_path / "imagenet" / "train" / "ant" / "0.png")
    arrays = load(DatasetSpec(source="imagenet", image_size=14), tmp_path)
    assert (arrays.train_images[0] == 10).all()  # 16 pixels: the frame falls to the crop
