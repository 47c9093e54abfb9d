from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pyarrow import parquet
from safetensors.torch import load, save
from torch import Tensor

from rstbench.errors import StoreError
from rstbench.evaluation.files import concatenated_samples, pack_images, pack_samples, unpack_images, unpack_samples
from tests.attacks.networks import images


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.uint32,
        hnp.array_shapes(min_dims=4, max_dims=4, min_side=0, max_side=4),
        elements=st.one_of(
            st.integers(0, 2**32 - 1),
            st.sampled_from([0x80000000, 0x7FC00000, 0x7F800001, 0xFF800000, 0x00000001]),  # -0, NaNs, -inf, denormal
        ),
    )
)
def test_every_bit_survives(bits: np.ndarray) -> None:
    packed = pack_images(torch.from_numpy(bits.view(np.float32)))
    found = unpack_images(packed, "here")
    assert found.dtype == torch.float32 and found.shape == bits.shape
    assert np.array_equal(found.numpy().view(np.uint32), bits)
    assert packed == pack_images(torch.from_numpy(bits.view(np.float32)))


def test_layout_does_not_matter() -> None:
    inputs = images(4)
    shuffled = inputs.contiguous(memory_format=torch.channels_last)
    assert pack_images(shuffled) == pack_images(inputs)
    assert torch.equal(unpack_images(pack_images(shuffled), "here"), inputs)


def test_adversarial_images_of_uint8_data_take_less_space() -> None:
    # Pixels of uint8 data, half of them moved by exactly epsilon: few different numbers.
    inputs = (images(16, side=16) * 255).round() / 255
    adversarial = (inputs + 8 / 255 * (images(16, side=16, seed=9) - 0.5).sign()).clamp(0, 1)
    assert len(pack_images(adversarial)) < 0.9 * 4 * adversarial.numel()


GOOD = pack_images(images(3))


def test_damage_is_found() -> None:
    for data in (b"", b"nonsense" * 10, GOOD[:40], GOOD[:-30], GOOD[:-400]):
        with pytest.raises(StoreError, match=r"^here: not adversarial images of ours, or damaged"):
            unpack_images(data, "here")


@settings(max_examples=80, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_never_crashes(place: int, change: int) -> None:
    spoilt = bytearray(GOOD)
    spoilt[place] ^= change
    try:
        assert unpack_images(bytes(spoilt), "here").shape == (3, 3, 8, 8)  # the store's digest is what finds this one
    except StoreError as error:
        assert str(error).startswith("here: ")


def hostile(shape: list[int], raw: bytes = b"\0" * 4096) -> bytes:
    planes = pyarrow.compress(raw, codec="zstd", asbytes=True)
    return save(
        {"planes": torch.frombuffer(bytearray(planes), dtype=torch.uint8), "shape": torch.tensor(shape)},
    )


@pytest.mark.parametrize(
    "shape",
    [
        [1, 1, 1, 1023],
        [1, 1, 1, 1025],
        [2**20, 3, 64, 64],
        [2**33, 1, 1, 1],
        [2**62, 2**62, 2**62, 2**62],
        [-1, -1, 32, 32],
        [1, 32, 32],
        [1024],
        [],
    ],
)
def test_shapes_that_lie(shape: list[int]) -> None:
    with pytest.raises(StoreError, match=r"^here: "):
        unpack_images(hostile(shape), "here")


def test_memory_grows_only_with_what_really_comes() -> None:
    import resource

    # 48 GiB by its own account, 4 KiB in truth; the limit would end an allocation in advance.
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 4 * 2**30, before[1]))
    try:
        with pytest.raises(StoreError, match="number of bytes"):
            unpack_images(hostile([2**20, 3, 64, 64]), "here")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize(
    "tensors",
    [
        {"shape": torch.tensor([1, 1, 1, 1])},
        {"planes": torch.zeros(4, dtype=torch.uint8)},
        {"planes": torch.zeros(4), "shape": torch.tensor([1, 1, 1, 1])},
        {"planes": torch.zeros(4, dtype=torch.bfloat16), "shape": torch.tensor([1, 1, 1, 1])},
        {"planes": torch.zeros(4, dtype=torch.uint8), "shape": torch.tensor([1.0, torch.inf, torch.nan, 1.0])},
        {"planes": torch.zeros(4, dtype=torch.uint8), "shape": torch.tensor([[1, 1], [1, 1]])},
    ],
)
def test_tensors_of_another_kind(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(StoreError, match=r"^here: "):
        unpack_images(save(tensors), "here")


def test_samples() -> None:
    columns = {"index": np.array([3, 5]), "label": np.array([1, 0]), "linf": np.array([0.1, 0.2])}
    data = pack_samples(columns)
    assert data == pack_samples(columns)
    found = unpack_samples(data, "here")
    assert found["index"].tolist() == [3, 5] and found["label"].tolist() == [1, 0]
    assert parquet.read_table(io.BytesIO(data)).column_names == ["index", "label", "linf"]


@pytest.mark.parametrize("data", [b"", b"PAR1", pack_samples({"index": np.arange(3)})])
def test_samples_that_are_none(data: bytes) -> None:
    with pytest.raises(StoreError, match=r"^here: not per-sample results"):
        unpack_samples(data, "here")


def test_many_images_are_packed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = images(11)
    whole = pack_images(inputs)
    monkeypatch.setattr("rstbench.evaluation.files._BLOCK_BYTES", 3 * inputs[0].nbytes + 5)
    blocks = pack_images(inputs)
    assert set(load(blocks)) == {"planes", "planes_1", "planes_2", "planes_3", "shape"} and set(load(whole)) < set(
        load(blocks)
    )
    assert torch.equal(unpack_images(blocks, "here"), inputs)
    for spoil in (
        lambda t: t.pop("planes_2"),
        lambda t: t.pop("planes_3"),
        lambda t: t.update(planes_4=t["planes"].clone()),
    ):
        tensors = load(blocks)
        spoil(tensors)
        with pytest.raises(StoreError, match="here: not adversarial images of ours, or damaged"):
            unpack_images(save(tensors), "here")


def test_rows_of_several_files() -> None:
    first = {"index": np.arange(3), "label": np.array([1, 0, 1]), "l2": np.array([0.5, 1.0, 2.0])}
    second = {"index": np.arange(3, 5), "label": np.array([0, 0]), "l2": np.array([4.0, 0.25])}
    whole = concatenated_samples([(pack_samples(first), "a"), (pack_samples(second), "b")])
    expected = {name: np.concatenate([first[name], second[name]]) for name in first}
    assert whole == pack_samples(expected)
    less = pack_samples({name: column for name, column in second.items() if name != "l2"})
    with pytest.raises(StoreError, match=r"^b: has columns index, label; the first part has index, label, l2"):
        concatenated_samples([(pack_samples(first), "a"), (less, "b")])
    with pytest.raises(StoreError, match=r"^b: not per-sample results"):
        concatenated_samples([(pack_samples(first), "a"), (b"damaged", "b")])


def test_no_rows() -> None:
    none = {"index": np.arange(0), "label": np.zeros(0, dtype=np.int64)}
    found = unpack_samples(pack_samples(none), "here")
    assert found["index"].shape == found["label"].shape == (0,) and found["label"].dtype == np.int64


def test_rows_are_packed_as_pyarrow_packs_them_and_without_pandas() -> None:
    columns = {"index": np.arange(7)[::-1], "l2": np.linspace(0, 1, 7), "queries": np.arange(7, dtype=np.int32)}
    sink = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), sink, compression="zstd")
    assert pack_samples(columns) == sink.getvalue()
    program = (
        "import sys, numpy as np\n"
        "from rstbench.evaluation.files import pack_samples, unpack_samples\n"
        "data = pack_samples({'index': np.arange(3), 'label': np.arange(3), 'l2': np.zeros(3)})\n"
        "assert unpack_samples(data, 'here')['index'].tolist() == [0, 1, 2]\n"
        "sys.exit('pandas was imported' if 'pandas' in sys.modules else 0)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
