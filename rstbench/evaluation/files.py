"""What the evaluation leaves on disk: adversarial images (safetensors) and one row per image (parquet)."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rstbench.errors import StoreError

IMAGES = "images.safetensors"
SAMPLES = "samples.parquet"

_MAX_IMAGES_BYTES = 64 * 2**30
_CHUNK_BYTES = 16 * 2**20
_BLOCK_BYTES = 128 * 2**20
"""Images above this size are packed block by block, so that packing takes little memory beside them."""


def pack_images(images: Tensor) -> bytes:
    """Float32 images (N, C, H, W), exactly, as a compressed safetensors file.

    The four bytes of the numbers are stored plane by plane: signs and exponents repeat, and so do the mantissas of
    saturated pixels. What takes more than 128 MiB is cut into blocks of whole images, `planes`, `planes_1`, ...
    """
    from safetensors.torch import save

    size = max(1, _BLOCK_BYTES // max(4 * math.prod(images.shape[1:]), 1))
    blocks = [_packed(images[at : at + size]) for at in range(0, max(len(images), 1), size)]
    tensors = {_block(i): torch.frombuffer(packed, dtype=torch.uint8) for i, packed in enumerate(blocks)}
    return save({**tensors, "shape": torch.tensor(images.shape, dtype=torch.int64)})


def _block(index: int) -> str:
    return f"planes_{index}" if index else "planes"


def _packed(images: Tensor) -> bytearray:
    import pyarrow

    planes = np.ascontiguousarray(images.contiguous().numpy().reshape(-1, 1).view(np.uint8).T)
    return bytearray(pyarrow.compress(planes, codec="zstd", asbytes=True))


def unpack_images(data: bytes, where: str) -> Tensor:
    """The images of `pack_images`, float32 (N, C, H, W). Raises `StoreError`, naming `where`, if these are none."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        sizes = tensors.pop("shape")
        blocks = [tensors[_block(i)] for i in range(len(tensors))]
        if not blocks or sizes.dtype != torch.int64 or sizes.shape != (4,):
            raise ValueError("tensors of another kind")
        if any(block.dtype != torch.uint8 for block in blocks):
            raise ValueError("tensors of another kind")
        shape = sizes.tolist()
        size = 4 * math.prod(shape)
        if min(shape) < 0 or size > _MAX_IMAGES_BYTES:
            raise ValueError(f"images of shape {shape}")
        images = _unpacked(blocks[0].numpy(), size)
        if len(blocks) > 1:
            whole, filled = np.empty(size // 4, dtype=np.float32), 0
            for i in range(len(blocks)):
                part = _unpacked(blocks[i].numpy(), size - 4 * filled) if i else images
                blocks[i] = tensors[_block(i)] = torch.zeros(0)  # its memory is for the next one
                whole[filled : filled + len(part)] = part
                filled += len(part)
            images = whole[:filled]
        if images.nbytes != size:
            raise ValueError("the number of bytes is not that of the shape")
    except (SafetensorError, KeyError, ValueError, OSError, MemoryError) as error:
        raise StoreError(f"{where}: not adversarial images of ours, or damaged ({error})") from error
    return torch.from_numpy(images.reshape(shape))


def _unpacked(packed: np.ndarray[Any, Any], most: int) -> np.ndarray[Any, Any]:
    """The float32 numbers of one block, (M,), of at most `most` bytes; memory grows only as they really come."""
    import pyarrow

    raw = bytearray()
    with pyarrow.CompressedInputStream(pyarrow.BufferReader(pyarrow.py_buffer(packed)), "zstd") as stream:
        while chunk := stream.read(min(_CHUNK_BYTES, most + 1 - len(raw))):
            raw += chunk
    if len(raw) > most or len(raw) % 4:
        raise ValueError("the number of bytes is not that of the shape")
    planes = np.frombuffer(raw, dtype=np.uint8).reshape(4, len(raw) // 4)
    return np.ascontiguousarray(planes.T).view(np.float32).reshape(-1)


def pack_samples(columns: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """One row per image: columns of numbers of equal length, as a parquet file."""
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    table = pyarrow.Table.from_arrays([_column(each) for each in columns.values()], names=list(columns))
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _column(values: np.ndarray[Any, Any]) -> Any:
    """What `pyarrow.array` makes of numbers. That, and `to_numpy`, import pandas, a second of every worker's time."""
    import pyarrow

    values = np.ascontiguousarray(values)
    return pyarrow.Array.from_buffers(
        pyarrow.from_numpy_dtype(values.dtype), len(values), [None, pyarrow.py_buffer(values)]
    )


def _numbers(column: Any) -> np.ndarray[Any, Any]:
    return np.from_dlpack(column.combine_chunks()).copy()


def concatenated_samples(files: Sequence[tuple[bytes, str]]) -> bytes:
    """One file with the rows of several, in their order; each with a name for messages.

    Raises `StoreError` for what are no per-sample results, or have not the columns of the first.
    """
    import pyarrow
    import pyarrow.parquet

    tables: list[Any] = []
    for data, where in files:
        try:
            table = pyarrow.parquet.read_table(pyarrow.BufferReader(data), use_threads=False)
        except (pyarrow.ArrowException, OSError) as error:
            raise StoreError(f"{where}: not per-sample results ({error})") from error
        if tables and table.schema != tables[0].schema:
            columns, others = ", ".join(table.column_names), ", ".join(tables[0].column_names)
            raise StoreError(f"{where}: has columns {columns}; the first part has {others}")
        tables.append(table)
    whole = pyarrow.concat_tables(tables)
    return pack_samples({name: _numbers(whole.column(name)) for name in whole.column_names})


def unpack_samples(data: bytes, where: str, optional: Sequence[str] = ()) -> dict[str, np.ndarray[Any, Any]]:
    """Columns `index` and `label` of `pack_samples`, and those of `optional` that are there.

    Raises `StoreError`, naming `where`, if these are no per-sample results.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data)) as file:
            names = ["index", "label", *(name for name in optional if name in file.schema_arrow.names)]
            table = file.read(columns=names, use_threads=False)
        return {name: _numbers(table.column(name)) for name in names}
    except (pyarrow.ArrowException, KeyError, OSError) as error:
        raise StoreError(f"{where}: not per-sample results ({error})") from error
