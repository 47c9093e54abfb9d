from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from rstbench.data import sources
from rstbench.data.folders import Folder, FolderImages
from rstbench.data.info import INFO
from rstbench.data.listing import FileNames
from rstbench.data.sources import facts, fingerprint
from rstbench.data.streamed import StreamedImages
from rstbench.errors import DataError
from rstbench.spec.models import DatasetSpec
from tests.data.made import paint, zoo


def spec(image_size: int | None = None) -> DatasetSpec:
    return DatasetSpec(source="folder", name="zoo", image_size=image_size)


def load(dataset: DatasetSpec, directory: Path) -> Folder:
    found = sources.load(dataset, directory)
    assert isinstance(found, Folder) and found.fingerprint == fingerprint(found)
    return found


def pixels(images: FolderImages) -> Tensor:
    return StreamedImages(images, np.arange(len(images)), torch.device("cpu"), workers=0)[:]


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
    found = load(spec(), tmp_path)
    images = pixels(found.train_images)
    assert images.shape == (4, 3, 8, 8) and images.dtype == torch.uint8 and found.notes == ()
    assert found.train_labels.tolist() == found.test_labels.tolist() == [0, 0, 1, 1]
    assert images[:, 0, 0, 0].tolist() == pixels(found.test_images)[:, 2, 7, 7].tolist() == [0, 1, 50, 51]


def test_class_folders_alone_are_cut(tmp_path: Path) -> None:
    zoo(tmp_path, ("",), each=10)
    found = load(spec(), tmp_path)
    assert len(found.train_labels) == 16 and np.bincount(found.test_labels).tolist() == [2, 2]
    assert found.notes == ("zoo: no train and test folders; our own stratified cut, 20% test, seed 2021",)
    every = torch.cat([pixels(found.train_images), pixels(found.test_images)])[:, 0, 0, 0]
    assert sorted(every.tolist()) == [*range(10), *range(50, 60)]


@pytest.mark.parametrize("parts", [("",), ("train", "test")])
def test_a_folder_around_the_folder_is_seen_through(tmp_path: Path, parts: tuple[str, ...]) -> None:
    root = zoo(tmp_path, parts, each=5)
    before = facts(spec(), tmp_path)
    root.rename(tmp_path / "unpacked")
    root.mkdir()
    (root / ".DS_Store").write_text("left by another system")
    (tmp_path / "unpacked").rename(root / "zoo_8")
    assert facts(spec(), tmp_path) == before


def test_a_single_class_is_none(tmp_path: Path) -> None:
    for index in range(3):
        paint(tmp_path / "zoo" / "ant" / f"{index}.png")
    assert "one class folder only (ant)" in failure(tmp_path)


@given(st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1), max_size=6))
def test_file_names_come_back(names: list[str]) -> None:
    found = FileNames.of(Path("/root"), names)
    assert [str(found[row]) for row in range(len(found))] == [str(Path("/root") / name) for name in names]
    chosen = np.arange(len(names))[::-1]
    again = found.rows(chosen)
    assert [again[row] for row in range(len(again))] == [found[row] for row in chosen]


def test_the_fingerprint_is_of_content_classes_and_parts(tmp_path: Path) -> None:
    root = zoo(tmp_path)
    first = facts(spec(), tmp_path).fingerprint
    assert facts(spec(4), tmp_path).fingerprint == first  # the size is in the key of the data beside it
    (root / "train" / "ant" / "0.png").rename(root / "train" / "ant" / "00.png")
    (root / "train" / "bee").rename(root / "train" / "cow")
    (root / "test" / "bee").rename(root / "test" / "cow")
    assert facts(spec(), tmp_path).fingerprint == first
    (root / "train" / "ant" / "1.png").rename(root / "train" / "cow" / "2.png")
    other = facts(spec(), tmp_path).fingerprint
    assert other != first
    paint(root / "train" / "ant" / "00.png", value=1)
    assert facts(spec(), tmp_path).fingerprint not in (first, other)


def test_grey_images_stay_grey_unless_mixed(tmp_path: Path) -> None:
    root = zoo(tmp_path, mode="L")
    assert pixels(load(spec(), tmp_path).train_images).shape == (4, 1, 8, 8)
    paint(root / "test" / "ant" / "colour.png")
    assert pixels(load(spec(), tmp_path).train_images).shape == (4, 3, 8, 8)


def test_resize_and_centre_crop(tmp_path: Path) -> None:
    root = zoo(tmp_path)
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = 200
    Image.fromarray(wide).save(root / "train" / "ant" / "0.png")
    assert (pixels(load(spec(8), tmp_path).train_images)[0] == 200).all()
    assert pixels(load(spec(4), tmp_path).train_images).shape == (4, 3, 4, 4)


def test_an_extreme_strip_is_cut_before_it_is_enlarged(tmp_path: Path) -> None:
    root = zoo(tmp_path)
    paint(root / "train" / "ant" / "0.png", 20_000, 2, value=77)
    paint(root / "train" / "ant" / "1.png", 2, 20_000, value=78)
    images = pixels(load(spec(32), tmp_path).train_images)
    assert (images[0] == 77).all() and (images[1] == 78).all()


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


@pytest.mark.parametrize("limit", [("rstbench.data.pictures.MAX_PIXELS", 63), ("PIL.Image.MAX_IMAGE_PIXELS", 31)])
def test_pixel_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: tuple[str, int]) -> None:
    zoo(tmp_path)
    monkeypatch.setattr(*limit)
    assert "pixels" in failure(tmp_path) and "ant/0.png" in failure(tmp_path)


def test_a_truncated_jpeg_is_named(tmp_path: Path) -> None:
    noise = np.random.Generator(np.random.Philox(key=1)).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = zoo(tmp_path) / "test" / "bee" / "1.jpg"
    Image.fromarray(noise).save(path)
    assert facts(spec(8), tmp_path).test_samples == 5
    path.write_bytes(path.read_bytes()[:-500])
    assert "bee/1.jpg: not a readable image" in failure(tmp_path, 8)


def test_an_image_that_breaks_later_is_named_when_it_is_read(tmp_path: Path) -> None:
    found = load(spec(), zoo(tmp_path).parent)
    (tmp_path / "zoo" / "train" / "ant" / "1.png").write_bytes(b"overwritten")
    with pytest.raises(DataError, match=r"ant/1\.png: not a readable image"):
        pixels(found.train_images)


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    root.mkdir()
    assert "no class folders" in failure(tmp_path)
    (root / "ant").mkdir()
    (root / "bee").mkdir()
    assert "ant: holds no images" in failure(tmp_path)
    (root / "ant").rmdir()
    (root / "bee").rmdir()
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
    found = load(DatasetSpec(source="imagenet", image_size=14), tmp_path)
    assert (pixels(found.train_images)[0] == 10).all()  # 16 pixels: the frame falls to the crop
