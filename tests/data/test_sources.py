from __future__ import annotations

import os
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rstbench.data import sources, standard
from rstbench.data.info import INFO
from rstbench.data.sources import ABSENT, DATA_ENV, download, facts, fingerprint, load, locate, published_facts
from rstbench.errors import DataError, SpecError
from rstbench.spec.models import SOURCES, DatasetSpec
from tests.data.made import Members, members

DIGITS = DatasetSpec(source="digits")


def test_info_covers_every_source() -> None:
    assert tuple(INFO) == SOURCES
    for info in INFO.values():
        mean, std = info.normalisation(info.channels or 3)
        assert len(mean) == len(std) == (info.channels or 3) and min(std) > 0
    with pytest.raises(ValueError, match="3 channels, not 1"):
        INFO["cifar10"].normalisation(1)


def test_digits_are_cut_and_scaled() -> None:
    from sklearn.datasets import load_digits

    raw = load_digits()
    arrays = load(DIGITS)
    assert arrays.train_images.shape == (1438, 8, 8, 1) and arrays.test_images.shape == (359, 8, 8, 1)
    assert arrays.classes == 10 and int(arrays.train_images.max()) == 255
    both = np.concatenate([arrays.train_images, arrays.test_images])[..., 0]
    scaled = np.rint(raw.images * 255 / 16).astype(np.uint8)
    assert Counter(image.tobytes() for image in both) == Counter(image.tobytes() for image in scaled)
    shares = np.bincount(arrays.test_labels) / np.bincount(raw.target)
    assert shares.min() > 0.19 and shares.max() < 0.21
    assert "20% test" in arrays.notes[0]


def test_digits_without_the_file_come_through_scikit_learn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Elsewhere:
        def locate_file(self, path: str) -> Path:
            return tmp_path / path

    expected = fingerprint(load(DIGITS))
    monkeypatch.setattr("rstbench.data.digits.distribution", lambda name: Elsewhere())
    assert fingerprint(load(DIGITS)) == expected


def test_digits20_adds_every_image_turned_on_its_own_side() -> None:
    base, both = load(DIGITS), load(DatasetSpec(source="digits20"))
    assert both.classes == 20
    for part in ("train", "test"):
        images, labels = getattr(base, f"{part}_images"), getattr(base, f"{part}_labels")
        n = len(labels)
        assert np.array_equal(getattr(both, f"{part}_images")[:n], images)
        assert np.array_equal(getattr(both, f"{part}_images")[n:], np.rot90(images, axes=(1, 2)))
        assert np.array_equal(getattr(both, f"{part}_labels"), np.concatenate([labels, labels + 10]))


def test_digits_are_golden() -> None:
    assert fingerprint(load(DIGITS)) == "14500f52b169e9121695652d3ed254dfeeedbde3cf7cdb62417df8f1b38f4de9"


def test_image_size_where_nothing_is_resized(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="image_size is for the sources imagenet and folder"):
        load(DatasetSpec(source="digits", image_size=16), tmp_path)


@pytest.mark.parametrize("source", ["cifar10", "cifar100", "svhn", "mnist"])
def test_missing_data_names_the_places_and_both_ways(tmp_path: Path, source: str) -> None:
    with pytest.raises(DataError) as caught:
        load(DatasetSpec(source=source), tmp_path)
    message = str(caught.value)
    assert f"{tmp_path / source}.npz" in message and f"rstbench data download {source}" in message
    assert all(str(tmp_path / name) in message for name in standard.FILES[source])
    assert "--data-dir" in message and DATA_ENV in message


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        (DatasetSpec(source="imagenet"), "imagenet"),
        (DatasetSpec(source="folder", name="zoo"), "zoo"),
        (DatasetSpec(source="arrays", name="toy"), "toy.npz"),
    ],
)
def test_missing_own_data(tmp_path: Path, spec: DatasetSpec, place: str) -> None:
    assert locate(spec, tmp_path) is None
    with pytest.raises(DataError) as caught:
        facts(spec, tmp_path)
    assert str(tmp_path / place) in str(caught.value) and DATA_ENV in str(caught.value)


def test_option_before_variable_before_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: Members, toy_spec: DatasetSpec
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(DATA_ENV, raising=False)
    assert sources.data_directory() == tmp_path / "data"
    monkeypatch.setenv(DATA_ENV, str(tmp_path / "elsewhere"))
    assert sources.data_directory() == tmp_path / "elsewhere"
    assert sources.data_directory(Path("here")) == tmp_path / "here"
    (tmp_path / "elsewhere").mkdir()
    np.savez(tmp_path / "elsewhere" / "toy.npz", **toy)
    assert locate(toy_spec) == tmp_path / "elsewhere" / "toy.npz"
    assert locate(DIGITS) is None


def idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


def mnist(directory: Path, arrays: Members) -> None:
    for part, name in (("train", "train"), ("test", "t10k")):
        idx(directory / "MNIST/raw" / f"{name}-images-idx3-ubyte", arrays[f"{part}_images"][..., 0])
        idx(directory / "MNIST/raw" / f"{name}-labels-idx1-ubyte", arrays[f"{part}_labels"].astype(np.uint8))


def test_torchvision_files_are_read_and_npz_goes_first(tmp_path: Path) -> None:
    spec, arrays = DatasetSpec(source="mnist"), members(10, 28, 1, 20, 10)
    mnist(tmp_path, arrays)
    assert locate(spec, tmp_path) == tmp_path / "MNIST/raw"
    assert np.array_equal(load(spec, tmp_path).train_images, arrays["train_images"])
    cache = tmp_path / "facts.json"
    first = facts(spec, tmp_path, cache)
    arrays["train_images"][0, 0, 0, 0] ^= 1
    np.savez(tmp_path / "mnist.npz", **arrays)
    assert locate(spec, tmp_path) == tmp_path / "mnist.npz" == download(spec, tmp_path)
    assert facts(spec, tmp_path, cache).fingerprint != first.fingerprint


def test_damaged_torchvision_files(tmp_path: Path) -> None:
    for name in standard.FILES["svhn"]:
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(DataError, match="torchvision cannot read its files"):
        load(DatasetSpec(source="svhn"), tmp_path)
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match="rstbench data download cifar10"):
        load(DatasetSpec(source="cifar10"), tmp_path)


def test_torchvision_layouts_become_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SVHN keeps channels first, CIFAR keeps labels in a list; real files of both are too large for a test."""
    from torchvision import datasets

    arrays = members(10, 32, 3, 20, 10)

    class Svhn:
        def __init__(self, root: str, split: str, download: bool) -> None:
            assert root == str(tmp_path)
            self.data, self.labels = arrays[f"{split}_images"].transpose(0, 3, 1, 2), arrays[f"{split}_labels"]

    class Cifar:
        def __init__(self, root: str, train: bool, download: bool) -> None:
            part = "train" if train else "test"
            self.data, self.targets = arrays[f"{part}_images"], arrays[f"{part}_labels"].tolist()

    monkeypatch.setattr(datasets, "SVHN", Svhn)
    monkeypatch.setattr(datasets, "CIFAR10", Cifar)
    for source in ("svhn", "cifar10"):
        read = standard.read(source, tmp_path)
        assert np.array_equal(read.test_images, arrays["test_images"])
        assert np.array_equal(read.train_labels, arrays["train_labels"])


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="digits cannot be downloaded; these can: cifar10, cifar100, svhn, mnist"):
        download(DIGITS, tmp_path)
    fetched: list[str] = []

    def fake(source: str, root: Path, part: str, fetch: bool) -> None:
        assert fetch
        fetched.append(part)
        if part == "test":
            (root / standard.FILES[source][0]).mkdir(parents=True)

    monkeypatch.setattr(standard, "_part", fake)
    found = download(DatasetSpec(source="cifar10"), tmp_path / "new")
    assert found == tmp_path / "new" / "cifar-10-batches-py" and fetched == ["train", "test"]
    with pytest.raises(DataError, match="left none of its files"):
        monkeypatch.setattr(standard, "_part", lambda *_, **__: None)
        download(DatasetSpec(source="cifar100"), tmp_path)

    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(standard, "_part", offline)
    with pytest.raises(DataError, match=r"CIFAR-100 could not be downloaded to .*: no route to host"):
        download(DatasetSpec(source="cifar100"), tmp_path)


def test_notes_do_not_change_the_fingerprint() -> None:
    arrays = load(DIGITS)
    assert fingerprint(replace(arrays, notes=())) == fingerprint(arrays)


@pytest.mark.parametrize("source", ["cifar10", "cifar100"])
def test_real_cifar(source: str) -> None:
    path = Path(os.environ.get(DATA_ENV, "")) / f"{source}.npz"
    if not os.environ.get(DATA_ENV) or not path.is_file():
        pytest.skip(f"{DATA_ENV} names no directory with {source}.npz")
    arrays = load(DatasetSpec(source=source))
    assert arrays.train_images.shape == (50_000, 32, 32, 3) and arrays.test_images.shape == (10_000, 32, 32, 3)
    assert len(set(np.bincount(arrays.train_labels))) == 1  # balanced
    mean = arrays.train_images.mean(axis=(0, 1, 2)) / 255
    if source == "cifar10":
        assert np.allclose(mean, INFO[source].mean, atol=1e-3)
        with np.load(path) as stored:
            flags = [~stored[name] for name in ("train_lossless", "test_lossless") if name in stored.files]
        restored = int(sum(flag.sum() for flag in flags))
        assert [str(restored) in note for note in arrays.notes] == [True] * bool(restored)
    train, validation = sources.split(arrays.train_labels, 0.02, 0)
    assert len(validation) == 1000 and len(set(np.bincount(arrays.train_labels[validation]))) == 1
    assert len(train) == 49_000


def test_published_facts_are_those_of_the_real_data(cifar10_dir: Path) -> None:
    spec = DatasetSpec(source="cifar10")
    published, real = published_facts(spec), facts(spec, cifar10_dir)
    assert published is not None and published.fingerprint == ABSENT
    assert replace(published, fingerprint=real.fingerprint, notes=real.notes) == real


def test_only_the_data_tell_what_a_folder_holds() -> None:
    assert published_facts(DatasetSpec(source="folder", name="mine", image_size=32)) is None
