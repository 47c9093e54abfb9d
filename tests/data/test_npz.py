from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rstbench.data.sources import load
from rstbench.errors import DataError
from rstbench.spec.models import DatasetSpec
from tests.data.made import Members, members

Refused = Callable[[Members], str]


def header(shape: object, descr: str = "|u1", version: tuple[int, int] = (1, 0)) -> bytes:
    stream = io.BytesIO()
    content = {"descr": descr, "fortran_order": False, "shape": shape}
    write = np.lib.format.write_array_header_1_0 if version == (1, 0) else np.lib.format.write_array_header_2_0
    write(stream, content)
    return stream.getvalue()


def spoilt(path: Path, toy: Members, name: str, content: bytes) -> None:
    """A valid npz, but for the bytes of one member."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, array in toy.items():
            stream = io.BytesIO()
            np.save(stream, array)
            archive.writestr(f"{key}.npy", content if key == name else stream.getvalue())


def failure(spec: DatasetSpec, directory: Path) -> str:
    with pytest.raises(DataError) as caught:
        load(spec, directory)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header((10**12, 6, 6, 3)), "damaged: its header promises 108000000000000 bytes"),
        (header((10**12, 6, 6, 3), "<f4"), "damaged"),
        (header((12, 6, 6, 3)) + b"x" * 5, "damaged: its header promises 1296 bytes, the file holds 5"),
        (header((12, 6, 6, 3), version=(2, 0)) + b"x" * 1296, "npy format 2.0"),
        (header((-12, -6, 6, 3)) + b"x" * 1296, "shape (-12, -6, 6, 3)"),
        (b"no array at all", "not a readable npz file"),
        (b"", "not a readable npz file"),
        (header((True,), "|O"), "pickle"),
    ],
)
def test_headers_that_lie(tmp_path: Path, toy: Members, toy_spec: DatasetSpec, content: bytes, message: str) -> None:
    spoilt(tmp_path / "toy.npz", toy, "train_images", content)
    assert message in failure(toy_spec, tmp_path)


def test_pickles_are_never_read(refused: Refused, toy: Members) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("exit 1",)

    toy["train_labels"] = np.array([Trap()] * 12, dtype=object)
    assert "never read" in refused(toy)


def test_a_decompression_bomb_is_refused_unopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: Members, toy_spec: DatasetSpec
) -> None:
    """40 MB of zeros in 40 kB: with 20 MB free the header alone decides."""
    toy["train_images"] = np.zeros((13_000, 32, 32, 3), dtype=np.uint8)
    toy["train_labels"] = np.zeros(13_000, dtype=np.int64)
    np.savez_compressed(tmp_path / "toy.npz", **toy)
    assert (tmp_path / "toy.npz").stat().st_size < 10**5
    monkeypatch.setattr("rstbench.data.arrays.available_memory", lambda: 20 * 10**6)
    monkeypatch.setattr("rstbench.data.npz._member", lambda *_: pytest.fail("decompressed"))
    assert "0.0 GB of memory are free" in failure(toy_spec, tmp_path)


def test_missing_arrays(refused: Refused, toy: Members) -> None:
    del toy["test_labels"], toy["train_images"]
    assert "lacks train_images, test_labels" in refused(toy)


def test_a_flipped_bit_is_noticed(tmp_path: Path, toy: Members, toy_spec: DatasetSpec) -> None:
    path = tmp_path / "toy.npz"
    np.savez(path, **toy)
    content = bytearray(path.read_bytes())
    content[content.index(toy["test_images"].tobytes()) + 17] ^= 1
    path.write_bytes(content)
    assert "not a readable npz file" in failure(toy_spec, tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"plain text"])
def test_not_a_zip(tmp_path: Path, toy_spec: DatasetSpec, content: bytes) -> None:
    (tmp_path / "toy.npz").write_bytes(content)
    assert "not a readable npz file" in failure(toy_spec, tmp_path)


def test_a_truncated_file(tmp_path: Path, toy: Members, toy_spec: DatasetSpec) -> None:
    path = tmp_path / "toy.npz"
    np.savez(path, **toy)
    path.write_bytes(path.read_bytes()[:-40])
    assert "not a readable npz file" in failure(toy_spec, tmp_path)


def test_restored_images_are_counted_in_a_note(tmp_path: Path) -> None:
    arrays = members(10, 32, 3, 1030, 10)
    arrays["train_lossless"] = np.arange(1030) >= 4
    arrays["test_lossless"] = np.arange(10) != 3
    arrays["unknown"] = np.array([object()])  # left alone, like everything else that is not asked for
    np.savez(tmp_path / "cifar10.npz", **arrays)
    spec = DatasetSpec(source="cifar10")
    assert load(spec, tmp_path).notes == ("CIFAR-10, 5 of 1 040 images restored from JPEG",)
    arrays["train_lossless"][:] = arrays["test_lossless"][:] = True
    np.savez(tmp_path / "cifar10.npz", **arrays)
    assert load(spec, tmp_path).notes == ()


def test_flags_of_a_wrong_kind(refused: Refused, toy: Members) -> None:
    toy["train_lossless"] = np.ones(11, dtype=bool)
    assert "train_lossless is bool (11,); it must be bool, one value per image (12,)" in refused(toy)
