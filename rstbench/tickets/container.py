"""The files of tickets, pruned networks and checkpoints. Never unpickled.

They are safetensors files whose metadata entry `rstbench` is canonical JSON. `digest` in that entry is the SHA-256
over the rest of it and every tensor, so that one flipped bit is found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from rstbench.errors import SpecError, TicketError
from rstbench.networks import build
from rstbench.networks.spec import ModelSpec
from rstbench.spec.base import Spec, canonical_json

FORMAT = 1
# With the limits of `ModelSpec`, these keep a small file from asking for more than about 2^30 weights.
_MAX_CLASSES = 100_000
_MAX_CHANNELS = 64
_MAX_FILE_BYTES = 2**30
_MAX_JSON_BYTES = 100_000_000  # safetensors refuses longer headers

Header = TypeVar("Header", bound=Spec)


def pack(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """The file of a JSON-able header (without `format` and `digest`) and tensors; equal input gives equal bytes."""
    # Cloned, because safetensors refuses tensors that share memory.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    whole = {"format": FORMAT, **header}
    return save_tensors(plain, metadata={"rstbench": canonical_json({**whole, "digest": _digest(whole, plain)})})


def unpack(data: bytes, kind: str, header_type: type[Header]) -> tuple[Header, dict[str, Tensor]]:
    """Header and tensors of a file, checked against the digest if the header has one.

    Raises `TicketError` if the file is no `kind` ("ticket", "pruned network", "checkpoint"), is damaged or has another
    format.
    """
    try:
        tensors = load_tensors(data)
        text = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["rstbench"]
        header = json.loads(text)
        canonical = canonical_json(header)
        fields = {"format": None, **header}
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TicketError(f"not a {kind} file, or damaged ({_line(error)})") from error
    if fields["format"] != FORMAT:
        raise TicketError(f"{kind} format {fields['format']!r:.40}; this rstbench reads format {FORMAT}")
    if text != canonical or ("digest" in header and header["digest"] != _digest(header, tensors)):
        raise TicketError("damaged (its SHA-256 differs from the one it was written with)")
    try:
        return header_type.model_validate_json(text), tensors
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        raise TicketError(f"not a {kind} of ours: its header's {field!r:.80} is wrong ({fault['msg']:.200})") from error


def declared(data: bytes) -> Mapping[str, Any] | None:
    """The header of a file of ours as it stands there, unchecked, empty if it is no JSON; None for any other file."""
    size = int.from_bytes(data[:8], "little")
    try:
        text = json.loads(data[8 : 8 + size])["__metadata__"]["rstbench"] if size <= _MAX_JSON_BYTES else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(text, str):
        return None
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises `TicketError` if it is absent or larger than any file of ours."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise TicketError(f"{path}: {path.stat().st_size} bytes are more than any ticket takes")
        return path.read_bytes()
    except OSError as error:
        raise TicketError(f"{path}: {error.strerror or error}") from error


def build_declared(model: ModelSpec) -> nn.Module:
    """The network that a file declares, with its parameters zero. Raises `TicketError` if there can be no such one."""
    if model.classes > _MAX_CLASSES or model.channels > _MAX_CHANNELS:
        raise TicketError(
            f"it asks for {model.classes} classes and {model.channels} channels; "
            f"more than {_MAX_CLASSES} and {_MAX_CHANNELS} are refused"
        )
    try:
        return build(model)
    except SpecError as error:
        raise TicketError(str(error)) from error


def _digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    whole = hashlib.sha256(canonical_json({key: header[key] for key in header if key != "digest"}).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        whole.update(canonical_json([name, str(tensor.dtype), list(tensor.shape)]).encode())
        whole.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return whole.hexdigest()


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
