"""Adversarial images of a whole test set against one view."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from rstbench.attacks.pgd import pgd
from rstbench.attacks.threat import Threat
from rstbench.defenses.view import CallableView, View
from rstbench.defenses.views import EnsembleView, ExpectationView
from rstbench.errors import TicketError
from rstbench.evaluation.batches import in_batches
from rstbench.spec.base import distance
from rstbench.spec.models import PgdSpec
from rstbench.training import generator


def view_of(members: list[nn.Module], spec: PgdSpec) -> View:
    """The view an attack asks for. `member` takes one network; `eot` and `ensemble` take all, equally weighted."""
    probabilities = [1.0 / len(members)] * len(members)
    if spec.view == "eot":
        return ExpectationView(members, probabilities)
    if spec.view == "ensemble":
        return EnsembleView(members, probabilities, spec.average)
    (member,) = members
    return CallableView(member)


def threat_of(spec: PgdSpec) -> Threat:
    """Norm and epsilon of an attack."""
    return Threat(spec.norm, distance(spec.epsilon))


def craft(
    members: list[nn.Module],
    clean: Tensor,
    labels: Tensor,
    spec: PgdSpec,
    seed: int,
    device: torch.device,
    progress: Callable[[float, float, str], None],
) -> tuple[Tensor, int]:
    """Adversarial images float32 (N, C, H, W), on the CPU; and the smallest batch used.

    clean: float images (N, C, H, W) in [0, 1]; labels: int64 (N,). The random start of a batch depends on the seed
    and on the batch's first image.
    """
    view = view_of(members, spec)

    def work(begin: int, end: int) -> Tensor:
        adversarial = pgd(
            view,
            clean[begin:end].to(device),
            labels[begin:end].to(device),
            threat=threat_of(spec),
            generator=generator(seed, "craft", begin),
            step_size=distance(spec.with_step_size(cifar=True).step_size or 0.0),
            steps=spec.steps,
            restarts=spec.restarts,
            start=spec.start,
            stop=spec.stop,
        )
        return adversarial.float().cpu()

    return in_batches(work, len(clean), spec.batch, progress)


_MAX_IMAGES_BYTES = 64 * 2**30


def pack_images(images: Tensor) -> bytes:
    """Float32 images, exactly, as a compressed safetensors file.

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
    """The images of `pack_images`, float32. Raises `TicketError` if the file is not one."""
    import pyarrow
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        shape = [int(size) for size in tensors["shape"]]
        size = 4 * int(np.prod(shape, dtype=np.float64))
        if len(shape) != 4 or min(shape) < 0 or size > _MAX_IMAGES_BYTES:
            raise ValueError(f"images of shape {shape}")
        raw = pyarrow.decompress(tensors["planes"].numpy().tobytes(), size, codec="zstd", asbytes=True)
        planes = np.frombuffer(raw, dtype=np.uint8).reshape(4, -1)
        return torch.from_numpy(np.ascontiguousarray(planes.T).view(np.float32).reshape(shape))
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise TicketError(f"{where}: not adversarial images of ours, or damaged ({error})") from error
