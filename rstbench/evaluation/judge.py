"""The verdict: distances re-measured, budget and range re-checked, predictions made afresh in fp32."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rstbench.attacks.threat import Threat, distances
from rstbench.errors import AttackError
from rstbench.evaluation.batches import in_batches

# One rounding of x + delta in fp32 near 1.0 is 6e-8; an L2 norm sums many.
TOLERANCE = 1e-6


def check_images(images: Tensor, clean: Tensor, threat: Threat | None) -> tuple[Tensor, Tensor]:
    """(linf, l2) distances, shapes (N,), of adversarial images (N, C, H, W) to their clean ones.

    threat: None for a minimum-norm attack, whose distances are a result and not a promise.
    Raises `AttackError` if an image leaves [0, 1] or the budget, or is not finite: what an attack says about its own
    images counts for nothing.
    """
    if images.shape != clean.shape or images.dtype != torch.float32:
        raise AttackError(
            f"the attack returned {images.dtype} {tuple(images.shape)} for float32 images {tuple(clean.shape)}"
        )
    if not bool(torch.isfinite(images).all()):
        raise AttackError("the attack returned images that are not finite")
    if float(images.amin()) < 0.0 or float(images.amax()) > 1.0:
        raise AttackError(f"the attack left [0, 1]: [{float(images.amin()):g}, {float(images.amax()):g}]")
    linf, l2 = distances(images, clean)
    if threat is not None:
        found = linf if threat.norm == "linf" else l2
        excess = found - threat.epsilon
        if float(excess.amax()) > TOLERANCE:
            raise AttackError(
                f"the attack left its budget on {int((excess > TOLERANCE).sum())} of {len(images)} images: "
                f"{threat.norm} distance {float(found.amax()):.8f}, epsilon {threat.epsilon:.8f}"
            )
    return linf, l2


def predict(
    network: nn.Module, images: Tensor, batch: int, progress: Callable[[float, float, str], None]
) -> tuple[Tensor, int]:
    """Predicted classes, int64 (N,), in fp32 on float images (N, C, H, W); and the batch that fitted.

    The last batch is padded to the full size, so that every image is predicted at the same numerical batch.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))

    def work(begin: int, end: int) -> Tensor:
        part = images[begin:end].to(device)
        missing = min(batch, len(images)) - len(part)
        padded = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) if missing > 0 else part
        with torch.no_grad():
            logits: Tensor = network(padded)
        return logits[: len(part)].float().argmax(1).cpu()

    return in_batches(work, len(images), batch, progress)
