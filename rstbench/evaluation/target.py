"""Models handed over in memory: put into order, or refused with one message, before anything is attacked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rstbench.errors import ModelError
from rstbench.foreign.answer import answer

_PROBES = 2


def prepared(
    model: nn.Module, images: Tensor, classes: int, device: torch.device | None = None
) -> tuple[nn.Module, tuple[str, ...]]:
    """The model in evaluation mode, and the flags (`spec.flags.RELIABILITY`) that this raised.

    images: float32 (N, C, H, W) in [0, 1], of which two are tried; classes: the least number that the model must
    tell apart, i.e. the largest label + 1; device: where the evaluation runs, None: where the model is. The model is
    never copied or moved: it is the caller's, and so is its mode, which is changed in place and flagged.
    Raises `ModelError` if it is no module, is on another device or spread over several, fails on the images, answers
    with anything but floating-point logits (N, K), or knows fewer classes than the labels have.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"the model is a {type(model).__name__}; a torch.nn.Module is expected")
    where = f"model {type(model).__name__}"
    device = _device(model, device, where)
    # Also where only a part is in training mode: a dropout left on makes every answer another one.
    flags = ("training_mode",) if any(part.training for part in model.modules()) else ()
    model.eval()
    if len(images) == 0:
        return model, flags
    found = answer(model, images[:_PROBES].to(device), where + _kind(model))
    if found.shape[1] < classes:
        raise ModelError(
            f"{where}: answers with {found.shape[1]} classes, the labels need at least {classes} (0 to {classes - 1})"
        )
    return model, flags


def device_of(model: nn.Module) -> torch.device:
    """Where the model is: the device of its parameters and buffers; the CPU if it has none.

    Raises `ModelError` if it is spread over several.
    """
    return _device(model, None, f"model {type(model).__name__}")


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _device(model: nn.Module, asked: torch.device | None, where: str) -> torch.device:
    devices = {_indexed(tensor.device) for tensor in _tensors(model)}
    if torch.device("meta") in devices:
        raise ModelError(f"{where}: has parameters without values (on the device `meta`); load its weights first")
    if len(devices) > 1:
        listing = ", ".join(sorted(map(str, devices)))
        raise ModelError(f"{where}: is spread over {listing}; move all of it to one device")
    found = devices.pop() if devices else None
    if asked is None:
        return found or torch.device("cpu")
    if found is not None and found != _indexed(asked):
        raise ModelError(
            f"{where}: is on {found}, the evaluation runs on {asked}; move it there with model.to({str(asked)!r}), or "
            f"evaluate on {found}"
        )
    return asked


def _indexed(device: torch.device) -> torch.device:
    """`cuda` names the current one of several devices."""
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", torch.cuda.current_device() if torch.cuda.is_available() else 0)


def _kind(model: nn.Module) -> str:
    """The type of its weights where it is not float32, which is the usual reason why it fails on the images."""
    others = sorted({str(t.dtype) for t in _tensors(model) if t.is_floating_point() and t.dtype != torch.float32})
    return f" (with {' and '.join(others)} weights; model.float() makes them float32)" if others else ""


def first_not_finite(model: nn.Module, images: Tensor) -> str:
    """In words, where the model's answer to images (N, C, H, W), on its device, first is not finite.

    Names the module whose output is the first, in the order in which they are computed, to hold NaN or infinity: its
    path in the model, its type, and whether its own weights are the reason. The model is asked once more, with hooks,
    which are taken off again; an answer that is finite this time is said to be so.
    """
    if not bool(torch.isfinite(images).all()):
        return "the images themselves are not finite"
    first: list[str] = []

    def watch(path: str, module: nn.Module) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not first and not all(bool(torch.isfinite(tensor).all()) for tensor in _inside(output)):
                first.append(_described(path, module))

        return module.register_forward_hook(hook)

    handles = [watch(path, module) for path, module in model.named_modules()]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return first[0] if first else "asked again, every layer's output is finite: the model's answers are random"


def _described(path: str, module: nn.Module) -> str:
    name = f"layer {path!r} ({type(module).__name__})" if path else f"the model itself ({type(module).__name__})"
    own = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
    broken = [key for key, value in own.items() if not bool(torch.isfinite(value).all())]
    weights = f", whose {broken[0]} is not finite" if broken else ""
    return f"the first output that is not finite is that of {name}{weights}"


def _inside(output: Any) -> Iterator[Tensor]:
    """The tensors of a module's output, however it packs them."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _inside(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _inside(value)
