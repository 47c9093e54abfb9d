"""State dicts from files nobody vouches for: parsed without running code, and fitted into a module name by name."""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from rstbench.errors import ModelError
from rstbench.foreign.wording import first_line, listed, needs_code

KEYS = ("state_dict", "model", "model_state_dict", "net")
"""Entries under which training scripts keep the state dict, in the order in which they are looked for."""

PREFIXES = ("module.", "model.", "_orig_mod.")
"""What wrappers (data parallelism, normalisation, compilation) write before every name."""

_FORCE, _FORCE_NOT = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@contextmanager
def weights_only() -> Iterator[None]:
    """Every `torch.load` of this process unpickles weights only, whatever its caller asks for; for foreign loaders.

    By torch's own environment variable, put back afterwards.
    """
    before = {name: os.environ.pop(name, None) for name in (_FORCE, _FORCE_NOT)}
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def read_state(data: bytes, suffix: str, where: str) -> dict[str, Tensor]:
    """The state dict in a file's bytes; `suffix` (.safetensors, .pt, .pth) says what they are, not their content.

    A .pt or .pth file holds the dict itself, or a dict with it under one of `KEYS`. Raises `ModelError`, naming
    `where`, for anything else: damaged files, pickles that need code, TorchScript, archives that would swell.
    """
    if suffix == ".safetensors":
        return _read_safetensors(data, where)
    return _state_of(_unpickled(data, where), where)


def _read_safetensors(data: bytes, where: str) -> dict[str, Tensor]:
    try:
        return load_safetensors(data)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        hint = ""
        if data[:2] == b"PK" or data[:1] == b"\x80":
            hint = "; it looks like a file of torch.save, whose suffix is .pt"
        raise ModelError(f"{where}: not a safetensors file, or damaged ({first_line(error)}){hint}") from error


def _unpickled(data: bytes, where: str) -> Any:
    if data[:2] == b"PK":
        _check_archive(data, where)
    elif data[8:9] == b"{":
        raise ModelError(f"{where}: it looks like a safetensors file; give it that suffix")
    try:
        with weights_only(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; nobody here can act on it
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # hostile bytes make the parser stumble in any way
        text = str(error)
        if "Weights only load failed" in text or "weights_only" in text:
            raise ModelError(needs_code(where, _offender(text))) from error
        raise ModelError(f"{where}: not a file of torch.save, or damaged ({first_line(error)})") from error


def _offender(text: str) -> str:
    """The name that the unpickler stopped at, if its message has one."""
    _, found, rest = text.partition("GLOBAL ")
    name = rest.split()[0].strip("`.,") if found and rest.split() else ""
    return f" ({name[:80]})" if name and name.isprintable() else ""


def _check_archive(data: bytes, where: str) -> None:
    """torch.save stores its records as they are; whatever unpacks to more than the file holds is a bomb."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, NotImplementedError) as error:
        raise ModelError(f"{where}: not a file of torch.save, or damaged ({first_line(error)})") from error
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > len(data):
        raise ModelError(f"{where}: refused, because its archive unpacks to more than the file holds")


def _state_of(found: Any, where: str) -> dict[str, Tensor]:
    for key in KEYS:
        inner = found.get(key) if isinstance(found, Mapping) else None
        if isinstance(inner, Mapping) and inner:
            found = inner
            break
    if not isinstance(found, Mapping) or not found:
        raise ModelError(f"{where}: holds {_kind(found)}, not a state dict (names to tensors)")
    wrong = [name for name, value in found.items() if not isinstance(name, str) or not isinstance(value, Tensor)]
    if wrong:
        raise ModelError(
            f"{where}: {listed(map(str, wrong))} of {len(found)} entries are no tensors; a state dict is expected, by "
            f"itself or under {', '.join(KEYS)}"
        )
    return dict(found)


def _kind(value: Any) -> str:
    return f"an empty {type(value).__name__}" if isinstance(value, Mapping) else f"a {type(value).__name__}"


def fill(module: nn.Module, state: Mapping[str, Tensor], where: str, classes: int) -> None:
    """Copy the tensors of a state dict into the module, all of them, each where it belongs.

    Prefixes of wrappers (`PREFIXES`) are dropped where every name has them and the module's names do not. Counters of
    batch norm (num_batches_tracked) may be missing. Raises `ModelError`, naming the first few tensors, where names or
    shapes differ, with both numbers where the classes do, and where a weight is not a number.
    """
    expected = module.state_dict()
    state = _without_prefixes(state, expected)
    faults = _differences(state, expected, classes)
    if faults:
        raise ModelError(f"{where}: {'; '.join(faults)}")
    try:
        module.load_state_dict(dict(state), strict=False)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ModelError(f"{where}: does not load ({first_line(error)})") from error
    check_finite(module, where)


def strangers(module: nn.Module, state: Mapping[str, Tensor]) -> int:
    """How many names only one of the two has, prefixes of wrappers aside."""
    expected = module.state_dict()
    return len(expected.keys() ^ _without_prefixes(state, expected).keys())


def check_finite(module: nn.Module, where: str) -> None:
    """Raises `ModelError` naming the first tensors that hold NaN or infinity."""
    broken = [name for name, value in module.state_dict().items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise ModelError(f"{where}: {listed(broken)} {'is' if len(broken) == 1 else 'are'} not finite (NaN or inf)")


def _without_prefixes(state: Mapping[str, Tensor], expected: Mapping[str, Any]) -> Mapping[str, Tensor]:
    while state.keys() != expected.keys():
        common = [p for p in PREFIXES if all(name.startswith(p) and len(name) > len(p) for name in state)]
        if not common or any(name.startswith(common[0]) for name in expected):
            break
        state = {name.removeprefix(common[0]): value for name, value in state.items()}
    return state


def _differences(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], classes: int) -> list[str]:
    faults = []
    missing = [n for n in expected if n not in state and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in state if n not in expected]
    shaped = {n: (tuple(state[n].shape), tuple(expected[n].shape)) for n in expected if n in state}
    ill = {n: (found, wanted) for n, (found, wanted) in shaped.items() if found != wanted}
    odd = [n for n in expected if n in state and (state[n].is_complex() or state[n].is_quantized)]
    if missing:
        faults.append(f"{listed(missing)} of the network's {len(expected)} tensors are missing")
    if unexpected:
        faults.append(f"{listed(unexpected)} are not the network's")
    if ill:
        # A classifier for other classes differs in its first dimension only, and nothing else of the network differs.
        others = {found[0] for found, wanted in ill.values() if found[1:] == wanted[1:] and wanted[:1] == (classes,)}
        if len(others) == 1 and all(wanted[:1] == (classes,) for _, wanted in ill.values()):
            faults.append(f"the weights are for {others.pop()} classes, the data set has {classes}")
        else:
            name, (found, wanted) = next(iter(ill.items()))
            more = f" (and {len(ill) - 1} more)" if len(ill) > 1 else ""
            faults.append(f"{name} has shape {list(found)}, the network's {list(wanted)}{more}")
    if odd:
        faults.append(f"{listed(odd)}: complex or quantised tensors are not read")
    return faults
