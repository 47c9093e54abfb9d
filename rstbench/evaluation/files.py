"""What the evaluation leaves on disk: adversarial images (safetensors) and one row per image (parquet)."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rstbench.errors import StoreError

IMAGES = "images.safetensors"
SAMPLES = "samples.parquet"

_MAX_IMAGES_BYTES = 64 * 2**30
_CHUNK_BYTES = 16 * 2**20


def pack_images(images: Tensor) -> bytes:
    """Float32 images (N, C, H, W), exactly, as a compressed safetensors file.

    The four bytes of the numbers are stored plane by plane: signs and exponents repeat, and so do the mantissas of
    saturated pixels.
    """
    import pyarrow
    from safetensors.torch import save

    planes = np.ascontiguousarray(images.contiguous().numpy().reshape(-1, 1).view(np.uint8).T)
    packed = pyarrow.compress(planes.tobytes(), codec="zstd", asbytes=True)
    return save(
        {
            "planes": torch.frombuffer(bytearray(packed), dtype=torch.uint8),
            "shape": torch.tensor(images.shape, dtype=torch.int64),
        }
    )


def unpack_images(data: bytes, where: str) -> Tensor:
    """The images of `pack_images`, float32 (N, C, H, W). Raises `StoreError`, naming `where`, if these are none."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        planes, sizes = tensors["planes"], tensors["shape"]
        if planes.dtype != torch.uint8 or sizes.dtype != torch.int64 or sizes.shape != (4,):
            raise ValueError("tensors of another kind")
        shape = sizes.tolist()
        size = 4 * math.prod(shape)
        if min(shape) < 0 or size > _MAX_IMAGES_BYTES:
            raise ValueError(f"images of shape {shape}")
        raw = np.frombuffer(_decompress(planes.numpy().tobytes(), size), dtype=np.uint8).reshape(4, size // 4)
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise StoreError(f"{where}: not adversarial images of ours, or damaged ({error})") from error
    return torch.from_numpy(np.ascontiguousarray(raw.T).view(np.float32).reshape(shape))


def _decompress(packed: bytes, size: int) -> bytearray:
    """Exactly `size` bytes; memory grows only as they really come."""
    import pyarrow

    raw = bytearray()
    with pyarrow.CompressedInputStream(pyarrow.BufferReader(packed), "zstd") as stream:
        while chunk := stream.read(min(_CHUNK_BYTES, size + 1 - len(raw))):
            raw += chunk
    if len(raw) != size:
        raise ValueError("the number of bytes is not that of the shape")
    return raw


def pack_samples(columns: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """One row per image: columns of equal length, as a parquet file."""
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(dict(columns)), sink, compression="zstd")
    return sink.getvalue()


def unpack_samples(data: bytes, where: str) -> dict[str, np.ndarray[Any, Any]]:
    """Columns `index` and `label` of `pack_samples`. Raises `StoreError`, naming `where`, if these are none."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(data), columns=["index", "label"], use_threads=False)
        return {name: table.column(name).to_numpy() for name in ("index", "label")}
    except (pyarrow.ArrowException, KeyError, OSError) as error:
        raise StoreError(f"{where}: not per-sample results ({error})") from error
