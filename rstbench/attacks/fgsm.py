"""The fast gradient sign method, from the clean image or from a random start."""

from __future__ import annotations

from torch import Tensor

from rstbench.attacks.draws import Draws
from rstbench.attacks.found import Found
from rstbench.attacks.pgd import cross_entropy
from rstbench.attacks.threat import Threat, ascend, project, random_start
from rstbench.defenses.view import View
from rstbench.errors import SpecError


def fgsm(
    view: View,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    draws: Draws,
    step_size: float,
    start: str = "zero",
) -> Found:
    """Adversarial images of the same shape as `inputs`, within `threat` and [0, 1]: one signed step on cross-entropy.

    inputs: float32 (N, C, H, W) in [0, 1]; labels: int64 (N,); step_size in units of the pixel range; draws: of which
    only the starts are drawn. start: "zero" (FGSM, Goodfellow et al. 2015) or "uniform" in the ball (FGSM-RS, Wong et
    al. 2020, Algorithm 3, whose start is clipped to [0, 1] here, so that the gradient is taken at an image).
    A pixel whose gradient is zero is not moved. Losses: (1, N), at the start.

    Raises `SpecError` if the threat is not l-infinity.
    """
    if threat.norm != "linf":
        raise SpecError(f"FGSM takes signed steps, which are of the l-infinity norm; the threat's is {threat.norm}")
    images = random_start(inputs, threat, draws) if start == "uniform" else inputs
    step = view.step(images, labels, cross_entropy)
    moved = project(ascend(images, step.gradient, step_size, threat), inputs, threat)
    return Found(moved, step.loss.unsqueeze(0))
