"""The verdict: distances re-measured, budget and range re-checked, predictions made afresh in fp32."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn

from rstbench.attacks.threat import Threat, distances
from rstbench.errors import AttackError, RunError
from rstbench.evaluation.batches import Images, in_batches, padded, whole_batches
from rstbench.evaluation.numerics import exact_fp32
from rstbench.evaluation.target import first_not_finite

_AT_ONCE = 256
"""Images compared at once: in double, they take twice their memory."""


def tolerance(threat: Threat, images: Tensor) -> float:
    """How far rounding may carry an honest attack in fp32 over epsilon, for images (N, C, H, W).

    l-infinity: 1e-6, a 4000th of a pixel value (one rounding of x + delta near 1.0 is 6e-8). L2: at worst every pixel
    is off by one rounding in the same sense, which grows with the square root of their number (5.6e-6 for CIFAR), and
    the norm that the attack projects by is itself rounded.
    """
    if threat.norm == "linf":
        return 1e-6
    return 1e-7 * math.sqrt(math.prod(images.shape[1:])) + 1e-6 * threat.epsilon


def _distances(images: Tensor, clean: Images) -> tuple[Tensor, Tensor]:
    starts = range(0, len(images), _AT_ONCE)
    found = [distances(images[at : at + _AT_ONCE], clean[at : at + _AT_ONCE]) for at in starts]
    return torch.cat([linf for linf, _ in found]), torch.cat([l2 for _, l2 in found])


def check_images(images: Tensor, clean: Images, threat: Threat | None) -> tuple[Tensor, Tensor]:
    """(linf, l2) distances, shapes (N,), of adversarial images (N, C, H, W) to their clean ones.

    threat: None for a minimum-norm attack, whose distances are a result and not a promise.
    Raises `AttackError` if an image leaves [0, 1] or the budget, or is not finite: what an attack says about its own
    images counts for nothing.
    """
    if images.shape != clean.shape or images.dtype != torch.float32:
        raise AttackError(
            f"the attack returned {images.dtype} {tuple(images.shape)} for float32 images {tuple(clean.shape)}"
        )
    if len(images) == 0:
        return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    lowest, highest = float(images.amin()), float(images.amax())  # NaN if one of the numbers is
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise AttackError("the attack returned images that are not finite")
    if lowest < 0.0 or highest > 1.0:
        raise AttackError(f"the attack left [0, 1]: [{lowest:g}, {highest:g}]")
    linf, l2 = _distances(images, clean)
    if threat is not None:
        found = linf if threat.norm == "linf" else l2
        outside = found > threat.epsilon + tolerance(threat, images)
        if bool(outside.any()):
            raise AttackError(
                f"the attack left its budget on {int(outside.sum())} of {len(images)} images: "
                f"{threat.norm} distance {float(found.amax()):.8f}, epsilon {threat.epsilon:.8f}"
            )
    return linf, l2


def within(images: Tensor, clean: Images, threat: Threat) -> Tensor:
    """The images (N, C, H, W), but the clean ones where an image is further away than the threat allows.

    For minimum-norm attacks: an adversary with a budget has nothing better to hand in there than the image as it is.
    """
    if len(images) == 0:
        return images
    linf, l2 = _distances(images, clean)
    far = (linf if threat.norm == "linf" else l2) > threat.epsilon + tolerance(threat, images)
    if isinstance(clean, Tensor):
        return torch.where(far.view(-1, 1, 1, 1), clean, images)
    kept = images.clone()
    for at in range(0, len(images), _AT_ONCE):
        rows = slice(at, at + _AT_ONCE)
        kept[rows] = torch.where(far[rows].view(-1, 1, 1, 1), clean[rows], images[rows])
    return kept


def predict(
    network: nn.Module, images: Images, batch: int, progress: Callable[[float, float, str], None]
) -> tuple[Tensor, int]:
    """Predicted classes, int64 (N,) on the CPU, of float images (N, C, H, W); and the batch that fitted.

    In fp32 (no autocast, no TF32) and in evaluation mode, into which the network is put. The last batch is padded to
    the full size, so that every image is predicted at the same numerical batch. Raises `RunError` if the network's
    answer is not a number, naming the batch and the layer that this began in; `DeviceError` if one image does not fit
    into memory.
    """
    network.eval()
    device = next((t.device for t in chain(network.parameters(), network.buffers())), torch.device("cpu"))

    def work(begin: int, end: int) -> Tensor:
        with torch.no_grad(), exact_fp32(device):
            logits: Tensor = network(padded(images, begin, end).to(device))
        if bool(logits.isnan().any()):
            raise RunError(_not_numbers(network, images, logits, begin, end))
        return logits.argmax(1).cpu()

    parts, batch = in_batches(work, whole_batches(len(images), batch), batch, progress)
    return torch.cat([torch.zeros(0, dtype=torch.int64), *parts])[: len(images)], batch


def _not_numbers(network: nn.Module, images: Images, logits: Tensor, begin: int, end: int) -> str:
    """The message for a batch, rows `begin` to `end` of the images, whose answer holds NaN."""
    rows = logits.isnan().flatten(1).any(1).nonzero().flatten().tolist()
    last = len(images) - 1  # what is beyond is this image again, in the padding
    with torch.no_grad(), exact_fp32(logits.device):
        layer = first_not_finite(network, padded(images, begin, end).to(logits.device))
    return (
        f"the network's predictions are not numbers (NaN) in the batch of images {begin} to {min(end - 1, last)}, the "
        f"first at image {min(begin + rows[0], last)}: {layer}"
    )
