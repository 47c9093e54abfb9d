"""Reading npz files that anybody may have made."""

from __future__ import annotations

import io
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy

from rstbench.build.handed_in import read
from rstbench.errors import ChallengeError

SHAPE, TEST = (3, 4, 4), 50
RNG = np.random.default_rng(0)
INDEX = np.array([7, 3, 40])
IMAGES = RNG.random((3, *SHAPE), dtype=np.float32)


def saved(folder: Path, compressed: bool = False, **arrays: Any) -> Path:
    path = folder / "adv.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def archive(folder: Path, **members: bytes) -> Path:
    path = folder / "adv.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return path


def packed(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    npy.write_array(stream, np.asarray(array), **options)
    return stream.getvalue()


def header(shape: tuple[int, ...], kind: str, content: bytes = b"") -> bytes:
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue() + content


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", ["first", "last", "fortran"])
def test_reads_both_orders_of_channels_and_sorts(tmp_path: Path, compressed: bool, order: str) -> None:
    images = {"first": IMAGES, "last": IMAGES.transpose(0, 2, 3, 1), "fortran": np.asfortranarray(IMAGES)}[order]
    found = read(saved(tmp_path, compressed, index=INDEX.astype(np.int32), images=images, other=INDEX), TEST, SHAPE)
    assert found.index.tolist() == [3, 7, 40]
    assert found.images.dtype == torch.float32
    assert torch.equal(found.images, torch.from_numpy(IMAGES[[1, 0, 2]]))


def test_bytes_are_divided_as_those_of_data_sets(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    found = read(saved(tmp_path, index=INDEX.astype(np.uint64), images=pixels), TEST, SHAPE)
    expected = torch.from_numpy(pixels[[1, 0, 2]].transpose(0, 3, 1, 2).copy()).float() / 255
    assert torch.equal(found.images, expected)


def test_content_is_of_pixels_and_indices_alone(tmp_path: Path) -> None:
    first = read(saved(tmp_path, index=INDEX, images=IMAGES), TEST, SHAPE)
    swapped = saved(tmp_path, True, index=INDEX[::-1].copy(), images=IMAGES[::-1].transpose(0, 2, 3, 1))
    assert read(swapped, TEST, SHAPE).content == first.content
    moved = read(saved(tmp_path, index=INDEX + 1, images=IMAGES), TEST, SHAPE)
    changed = IMAGES.copy()
    changed[0, 0, 0, 0] = 0.5
    other = read(saved(tmp_path, index=INDEX, images=changed), TEST, SHAPE)
    assert len({first.content, moved.content, other.content}) == 3


def wrong(value: float) -> np.ndarray[Any, Any]:
    images = IMAGES.copy()
    images[1, 0, 0, 0] = value
    return images


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "absent": (lambda at: at / "none.npz", "no such file"),
    "a folder": (lambda at: at, "not a file"),
    "no zip": (lambda at: written(at, b"PK\x03\x04 not at all"), "not a readable npz"),
    "cut off": (lambda at: cut(saved(at, True, index=INDEX, images=IMAGES)), "not a readable npz"),
    "damaged": (lambda at: flipped(saved(at, index=INDEX, images=IMAGES)), "not a readable npz"),
    "no images": (lambda at: saved(at, index=INDEX), "lacks images"),
    "no index": (lambda at: saved(at, images=IMAGES), "lacks index"),
    "pickle": (
        lambda at: archive(at, index=packed(np.array([{}] * 3, dtype=object)), images=packed(IMAGES)),
        "pickle",
    ),
    "pickled images": (
        lambda at: archive(at, index=packed(INDEX), images=packed(np.array([{}] * 3, dtype=object))),
        "pickle",
    ),
    "structured": (lambda at: saved(at, index=np.zeros(3, dtype=[("a", "i8")]), images=IMAGES), "must be integers"),
    "newer format": (
        lambda at: archive(at, index=packed(INDEX, version=(2, 0)), images=packed(IMAGES)),
        "npy format 2.0",
    ),
    "float index": (lambda at: saved(at, index=INDEX / 1, images=IMAGES), "must be integers"),
    "bool index": (lambda at: saved(at, index=INDEX > 3, images=IMAGES), "must be integers"),
    "two-dimensional index": (lambda at: saved(at, index=INDEX[:, None], images=IMAGES), "must be integers"),
    "no image at all": (lambda at: saved(at, index=INDEX[:0], images=IMAGES[:0]), "names 0 images"),
    "more than there are": (
        lambda at: saved(at, index=np.arange(51), images=np.zeros((51, *SHAPE), dtype=np.uint8)),
        "names 51 images",
    ),
    "beyond": (lambda at: saved(at, index=np.array([7, 3, 50]), images=IMAGES), "holds 50"),
    "below": (lambda at: saved(at, index=np.array([7, -1, 40]), images=IMAGES), "holds -1"),
    "huge": (lambda at: saved(at, index=np.array([7, 2**64 - 1, 40], dtype=np.uint64), images=IMAGES), "outside"),
    "twice": (lambda at: saved(at, index=np.array([7, 7, 40]), images=IMAGES), "image 7 more than once"),
    "double": (lambda at: saved(at, index=INDEX, images=IMAGES.astype(np.float64)), "float64; they must be float32"),
    "big-endian": (lambda at: saved(at, index=INDEX, images=IMAGES.astype(">f4")), "they must be float32"),
    "too few": (lambda at: saved(at, index=INDEX, images=IMAGES[:2]), r"shape \(2, 3, 4, 4\)"),
    "flat": (lambda at: saved(at, index=INDEX, images=IMAGES.reshape(3, -1)), r"shape \(3, 48\)"),
    "another size": (lambda at: saved(at, index=INDEX, images=IMAGES[:, :, :2]), r"shape \(3, 3, 2, 4\)"),
    "not a number": (lambda at: saved(at, index=INDEX, images=wrong(np.nan)), "1 of 3 images are not within"),
    "infinite": (lambda at: saved(at, index=INDEX, images=wrong(-np.inf)), "place 1"),
    "too bright": (lambda at: saved(at, index=INDEX, images=wrong(1.0000001)), "not within"),
    "a negative shape": (
        lambda at: archive(at, index=packed(INDEX), images=header((-3, 3, 4, 4), "<f4")),
        "damaged",
    ),
    "a shape without pixels": (
        lambda at: archive(at, index=packed(INDEX), images=header((3, 3, 4, 4), "<f4", b"short")),
        "damaged",
    ),
    "a long header": (
        lambda at: archive(at, index=b"\x93NUMPY\x01\x00\xff\xff" + b" " * 65535, images=packed(IMAGES)),
        "not a readable npz",
    ),
}


def written(folder: Path, data: bytes) -> Path:
    path = folder / "adv.npz"
    path.write_bytes(data)
    return path


def cut(path: Path) -> Path:
    return written(path.parent, path.read_bytes()[:-40])


def flipped(path: Path) -> Path:
    data = bytearray(path.read_bytes())
    data[data.index(IMAGES.tobytes()[:16])] ^= 1
    return written(path.parent, bytes(data))


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_ends_in_one_message(tmp_path: Path, name: str) -> None:
    make, message = BAD[name]
    path = make(tmp_path)
    with pytest.raises(ChallengeError, match=message) as caught:
        read(path, TEST, SHAPE)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "adv.npz"
    os.mkfifo(path)
    with pytest.raises(ChallengeError, match="not a file"):
        read(path, TEST, SHAPE)


def bomb(folder: Path, claims: bytes, zeros: int) -> Path:
    """A member that holds far more than the file, all zeros."""
    path = folder / "adv.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("index.npy", packed(INDEX))
        with file.open("images.npy", "w", force_zip64=True) as stream:
            stream.write(claims)
            for _ in range(zeros // 2**20):
                stream.write(bytes(2**20))
    return path


def peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused(path: Path, message: str) -> Callable[[], None]:
    def work() -> None:
        with pytest.raises(ChallengeError, match=message):
            read(path, TEST, SHAPE)

    return work


def test_bombs_are_refused_by_their_headers(tmp_path: Path) -> None:
    size = 256 * 2**20
    count = size // 192
    honest = bomb(tmp_path, header((count, 3, 4, 4), "<f4"), size)
    assert honest.stat().st_size < 2**20
    assert peak(refused(honest, "shape")) < 8 * 2**20
    lying = bomb(tmp_path, header((3, 3, 4, 4), "<f4"), size)
    assert peak(refused(lying, "damaged")) < 8 * 2**20


def test_a_long_list_of_members_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "adv.npz"
    with zipfile.ZipFile(path, "w") as file:
        for i in range(20_000):
            file.writestr(f"{i:060d}.npy", b"")
    # As many test images as it takes for a file of this size to pass for one of images.
    with pytest.raises(ChallengeError, match="list of members is longer"):
        read(path, 10**6, SHAPE)


def test_a_large_file_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "adv.npz"
    with path.open("wb") as file:
        file.truncate(2**32)  # a hole
    assert peak(refused(path, "larger than 50 images of 3x4x4")) < 2**20


def test_dictionaries_of_other_compressions_are_not_allocated(tmp_path: Path) -> None:
    path = tmp_path / "adv.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("index.npy", packed(INDEX))
        file.writestr("images.npy", packed(IMAGES))
    with pytest.raises(ChallengeError, match="savez_compressed"):
        read(path, TEST, SHAPE)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "adv.npz"
    with zipfile.ZipFile(path, "w") as file:
        for array in (INDEX, INDEX + 1):
            file.writestr("index.npy", packed(array))
        file.writestr("images.npy", packed(IMAGES))
    with pytest.raises(ChallengeError, match="more than one array called index"):
        read(path, TEST, SHAPE)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_byte_that_is_changed_does_more_than_that(tmp_path: Path, data: st.DataObject) -> None:
    """A file with a few bytes overwritten is read to valid images, or refused with a message of ours."""
    honest = saved(tmp_path, data.draw(st.booleans()), index=INDEX, images=IMAGES).read_bytes()
    changed = bytearray(honest)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(honest) - 1))] = data.draw(st.integers(0, 255))
    path = written(tmp_path, bytes(changed))
    try:
        found = read(path, TEST, SHAPE)
    except ChallengeError:
        return
    assert found.images.shape[1:] == SHAPE and found.images.min() >= 0 and found.images.max() <= 1
    assert found.index.min() >= 0 and found.index.max() < TEST and len(set(found.index)) == len(found.images)
