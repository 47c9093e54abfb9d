"""Random weights and scores that have the same bits on every machine.

Torch's samplers give other bits on other processors and versions, and so do numpy's distributions and its log and
cos. Here every parameter has a stream of raw 64-bit words of numpy's Philox4x64-10, a counter-based generator whose
output is specified, and words become numbers through IEEE-754 operations that are exact or correctly rounded
(+ - * / sqrt, frexp, comparisons) in float64, rounded to float32 once.

The stream of a parameter: its 128-bit key is the first 16 bytes (little endian) of the SHA-256 of the ASCII text

    rstbench <purpose> v1
    seed <seed>
    name <name of the parameter in the module>
    shape <sizes, joined by x>

(lines end in a line feed, the last one too; purpose is `theta` for weights and `score` for mask scores), and its
counter starts at 0 (numpy counts before it draws: the first four words are the block of counter 1). Words are taken
in C order of the elements. Nothing else enters: networks that share a parameter's name and shape share its values,
so a backbone is the same whatever the number of classes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rstbench.errors import SpecError
from rstbench.networks.quantile import normal_quantile

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]

_CHUNK = 1 << 15  # elements; the float64 temporaries stay in a core's cache


def initialise(module: nn.Module, init: str, seed: int) -> None:
    """Fill every parameter of `module` in place and reset the running statistics of its batch norms.

    Weights of convolutions and linear layers are drawn as `init` says, all with fan-in and the gain of ReLU:
    `signed_kaiming_constant` (a random sign times sqrt(2 / fan_in)), `kaiming_normal` (standard deviation
    sqrt(2 / fan_in)), `kaiming_uniform` (bound sqrt(6 / fan_in)), `xavier_normal` (standard deviation
    sqrt(2 / (fan_in + fan_out)), no gain). For one seed all four have the same signs. Biases
    become 0, scales of normalisation layers 1. Parameters keep their device and type.

    Raises `SpecError` for an unknown `init` and for a layer with parameters of any other kind.
    """
    if init not in _INITS:
        raise SpecError(f"unknown initialisation {init!r}; known: {', '.join(_INITS)}")
    draw = _INITS[init]
    with torch.no_grad():
        for prefix, layer in module.named_modules():
            for local, parameter in layer.named_parameters(recurse=False):
                name = f"{prefix}.{local}" if prefix else local
                if isinstance(layer, _WEIGHTED) and local == "weight":
                    parameter.copy_(torch.from_numpy(draw(seed, name, tuple(parameter.shape))))
                elif isinstance(layer, _WEIGHTED + _NORMS) and local == "bias":
                    parameter.zero_()
                elif isinstance(layer, _NORMS) and local == "weight":
                    parameter.fill_(1.0)
                else:
                    raise SpecError(
                        f"parameter {name} belongs to a {type(layer).__name__}; initialisation knows convolutions, "
                        "linear layers and normalisation layers"
                    )
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.reset_running_stats()


def theta_digest(module: nn.Module) -> str:
    """SHA-256 (hex) of all parameters in order of name: name, shape, values as little-endian float32 in C order.

    Buffers are not part of it, nor are device and memory layout.
    """
    total = hashlib.sha256()
    for name, parameter in sorted(module.named_parameters()):
        total.update(f"{name}\n{_shape_text(tuple(parameter.shape))}\n".encode())
        total.update(parameter.detach().cpu().float().numpy().astype("<f4").tobytes())
    return total.hexdigest()


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Inputs and outputs per unit, (fan_in, fan_out), of a weight (out, in / groups, *kernel) or (out, in)."""
    if len(shape) < 2:
        raise ValueError(f"a weight with fans has at least two dimensions; this shape is {shape}")
    receptive = math.prod(shape[2:])
    return shape[1] * receptive, shape[0] * receptive


def uniform(seed: int, name: str, shape: tuple[int, ...], bound: float) -> Float32:
    """Scores: uniform float32 in [-bound, bound), from the `score` stream of `seed`, `name` and `shape`."""
    values = _fill("score", seed, name, shape, lambda centred: centred * (2.0 * bound))
    # Rounding to float32 may step on or over the bound: at most one value in 2^24.
    top = np.float32(bound)
    below = np.nextafter(top, np.float32(0.0)) if float(top) >= bound else top
    lowest = -top if float(top) <= bound else -below
    return np.clip(values, lowest, below, out=values)


def kaiming_uniform_scores(seed: int, name: str, shape: tuple[int, ...], fan_in: int, scale: float = 1.0) -> Float32:
    """Scores as edge-popup starts them: Kaiming uniform with a = sqrt(5), that is in [-b, b), b = sqrt(1 / fan_in).

    scale: factor of b, above 0.
    """
    return uniform(seed, name, shape, scale * math.sqrt(1.0 / fan_in))


def _shape_text(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)


def _stream(purpose: str, seed: int, name: str, shape: tuple[int, ...]) -> np.random.Philox:
    text = f"rstbench {purpose} v1\nseed {seed}\nname {name}\nshape {_shape_text(shape)}\n"
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
    return np.random.Philox(key=key, counter=0)


def _centred(stream: np.random.Philox, count: int) -> Iterator[tuple[slice, Float64]]:
    """u - 1/2 for u = (k + 1/2) 2^-53, where k is the top 53 bits of a word; in (-1/2, 1/2), never 0, exact.

    u itself would not be exact: k + 1/2 has up to 54 significant bits, and the largest k would give u = 1.
    """
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        k = (stream.random_raw(size) >> np.uint64(11)).astype(np.float64)
        yield slice(start, start + size), (k - 2.0**52 + 0.5) * 2.0**-53


def _fill(purpose: str, seed: int, name: str, shape: tuple[int, ...], value: Callable[[Float64], Float64]) -> Float32:
    out = np.empty(math.prod(shape), dtype=np.float32)
    for part, centred in _centred(_stream(purpose, seed, name, shape), out.size):
        out[part] = value(centred)
    return out.reshape(shape)


def _signed_constant(seed: int, name: str, shape: tuple[int, ...]) -> Float32:
    constant = math.sqrt(2.0 / fans(shape)[0])
    return _fill("theta", seed, name, shape, lambda centred: np.copysign(constant, centred))


def _kaiming_normal(seed: int, name: str, shape: tuple[int, ...]) -> Float32:
    std = math.sqrt(2.0 / fans(shape)[0])
    return _fill("theta", seed, name, shape, lambda centred: normal_quantile(centred) * std)


def _kaiming_uniform(seed: int, name: str, shape: tuple[int, ...]) -> Float32:
    bound = math.sqrt(6.0 / fans(shape)[0])
    return _fill("theta", seed, name, shape, lambda centred: centred * (2.0 * bound))


def _xavier_normal(seed: int, name: str, shape: tuple[int, ...]) -> Float32:
    std = math.sqrt(2.0 / sum(fans(shape)))
    return _fill("theta", seed, name, shape, lambda centred: normal_quantile(centred) * std)


_INITS: dict[str, Callable[[int, str, tuple[int, ...]], Float32]] = {
    "signed_kaiming_constant": _signed_constant,
    "kaiming_normal": _kaiming_normal,
    "kaiming_uniform": _kaiming_uniform,
    "xavier_normal": _xavier_normal,
}
_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
