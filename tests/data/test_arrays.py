from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rstbench.data import arrays as room
from rstbench.data.sources import Arrays, fingerprint, load
from rstbench.errors import DataError
from rstbench.spec.models import DatasetSpec
from tests.data.made import Members, members

Refused = Callable[[Members], str]


def test_valid_arrays_arrive_as_uint8_and_int64(tmp_path: Path, toy: Members, toy_spec: DatasetSpec) -> None:
    np.savez_compressed(tmp_path / "toy.npz", **{**toy, "test_labels": toy["test_labels"].astype(np.uint8)})
    arrays = load(toy_spec, tmp_path)
    assert arrays.classes == 3 and arrays.notes == ()
    assert arrays.train_images.dtype == np.uint8 and arrays.test_labels.dtype == np.int64
    assert np.array_equal(arrays.train_images, toy["train_images"])
    assert np.array_equal(arrays.test_labels, toy["test_labels"])


def test_grey_images_get_a_channel_axis(tmp_path: Path, toy: Members, toy_spec: DatasetSpec) -> None:
    for part in ("train", "test"):
        toy[f"{part}_images"] = toy[f"{part}_images"][..., 0]
    np.savez(tmp_path / "toy.npz", **toy)
    assert load(toy_spec, tmp_path).train_images.shape == (12, 6, 6, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int16, np.bool_])
def test_images_that_are_not_uint8(refused: Refused, toy: Members, dtype: type) -> None:
    toy["test_images"] = toy["test_images"].astype(dtype)
    message = refused(toy)
    assert "test_images" in message and "uint8 with values 0..255" in message and "round()" in message


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((12, 6), r"must be \(N, H, W\)"),
        ((12, 6, 6, 2), "C 1 or 3"),
        ((12, 3, 6, 6), "channels come last"),
        ((12, 6, 5, 3), "square"),
        ((12, 0, 0, 3), "square"),
        ((0, 6, 6, 3), "empty"),
    ],
)
def test_images_of_a_wrong_shape(refused: Refused, toy: Members, shape: tuple[int, ...], message: str) -> None:
    toy["train_images"] = np.zeros(shape, dtype=np.uint8)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(refused(toy))


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("test_labels", [0, 1, 2, 0, 3, -1], "test_labels[4] is 3; labels must lie in 0..2 (2 of 6 do not)"),
        ("test_labels", [0, -7, 2, 0, 1, 2], "test_labels[1] is -7; labels must lie in 0..2 (1 of 6 do not)"),
        ("train_labels", [0, 1, 2] * 3 + [0, 1, -2], "train_labels[11] is -2"),
        ("train_labels", [-1] * 12, "train_labels[0] is -1"),
        ("train_labels", [0, 1, 4] * 4, "train_labels has no image of class 2; each of the 5 classes 0..4"),
        ("train_labels", [1, 2, 3] * 4, "no image of class 0"),
        ("train_labels", [0, 10**15] * 6, "no image of class 1"),
        ("test_labels", [0.0] * 6, "labels must be integers"),
        ("test_labels", [[0]] * 6, "one-dimensional"),
        ("test_labels", [0] * 5, "5 labels for 6 images"),
        ("test_labels", [True] * 6, "labels must be integers"),
    ],
)
def test_labels(refused: Refused, toy: Members, name: str, labels: list[object], message: str) -> None:
    toy[name] = np.asarray(labels)
    assert message in refused(toy)


def test_labels_beyond_int64(refused: Refused, toy: Members) -> None:
    toy["test_labels"] = np.array([0, 2**64 - 1, 0, 0, 0, 0], dtype=np.uint64)
    assert f"test_labels[1] is {2**64 - 1}" in refused(toy)


def test_one_class_only(refused: Refused, toy: Members) -> None:
    toy["train_labels"] *= 0
    toy["test_labels"] *= 0
    assert "at least two" in refused(toy)


def test_train_and_test_of_different_shapes(refused: Refused, toy: Members) -> None:
    toy["test_images"] = toy["test_images"][:, :5, :5]
    assert "training images are 6x6x3, test images 5x5x3" in refused(toy)


@pytest.mark.parametrize(
    ("source", "arrays", "message"),
    [
        ("cifar10", members(10, 28, 3, 20, 10), "train_images has images of 28x28x3; CIFAR-10 has 32x32x3"),
        ("cifar10", members(11, 32, 3, 22, 11), "train_labels[10] is 10; labels must lie in 0..9"),
        ("cifar100", members(10, 32, 3, 20, 10), "no image of class 10; each of the 100 classes"),
        ("mnist", members(10, 28, 3, 20, 10), "MNIST has 28x28x1"),
    ],
)
def test_known_sources_are_held_to_their_facts(tmp_path: Path, source: str, arrays: Members, message: str) -> None:
    np.savez(tmp_path / f"{source}.npz", **arrays)
    with pytest.raises(DataError) as caught:
        load(DatasetSpec(source=source), tmp_path)
    assert message in str(caught.value)


def test_fingerprint_sees_content_and_nothing_else(toy: Members) -> None:
    arrays = Arrays(**toy, classes=3)
    base = fingerprint(arrays)
    assert base.startswith("a553045000a6") and base.endswith("e4baece2e242f")
    assert fingerprint(replace(arrays, notes=("cut by hand",))) == base
    assert fingerprint(replace(arrays, train_images=np.asfortranarray(arrays.train_images))) == base
    swapped = arrays.test_labels.astype(np.dtype(np.int64).newbyteorder(">"))
    assert fingerprint(replace(arrays, test_labels=swapped)) == base
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        other = getattr(arrays, name).copy()
        other.flat[-1] ^= 1
        assert fingerprint(replace(arrays, **{name: other})) != base
    assert fingerprint(replace(arrays, train_images=arrays.train_images.reshape(12, 3, 6, 6))) != base


def test_data_larger_than_memory(monkeypatch: pytest.MonkeyPatch, refused: Refused, toy: Members) -> None:
    monkeypatch.setattr(room, "available_memory", lambda: 1000)
    assert "GB of memory are free" in refused(toy)


def test_available_memory_is_plausible() -> None:
    free = room.available_memory()
    assert free is None or 10**6 < free < 10**15


def test_memory_of_systems_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    assert room.available_memory()
    monkeypatch.delattr("os.sysconf")
    assert room.available_memory() is None
    room.check_memory(10**18, "anywhere", "no advice")  # unknown memory refuses nothing
