"""The attacks of the AutoAttack package, set up as its versions `standard` and `rand` set them up."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rstbench.attacks.margin import margin
from rstbench.attacks.package import NORMS, Logits, Warnings
from rstbench.attacks.threat import Threat
from rstbench.compat import import_autoattack

STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
RAND = ("apgd-ce", "apgd-dlr")
_TARGETS = 9
_P_INIT = 0.8


class Parts:
    """Each attack on one batch, on the device of the batch. All draw from torch's global generator, freshly seeded.

    steps: of APGD and FAB; queries: of Square, per image; eot_queries: of `candidates`. warnings: gets those about
    gradients that vanish. No step size, momentum, restart or schedule differs from the package's.
    """

    def __init__(
        self,
        model: Logits,
        threat: Threat,
        seed: int,
        steps: int,
        queries: int,
        eot_queries: int,
        classes: int,
        device: torch.device,
        warnings: Warnings,
    ) -> None:
        package = import_autoattack()
        common: dict[str, Any] = {"norm": NORMS[threat.norm], "eps": threat.epsilon, "seed": seed, "device": device}
        apgd: dict[str, Any] = {"n_iter": steps, "n_restarts": 1, "rho": 0.75, "logger": warnings}
        targets = min(_TARGETS, max(classes - 1, 0))
        self._seed = seed
        self._apgd = package.autopgd_base.APGDAttack(model, **common, **apgd, eot_iter=1)
        self._averaged = package.autopgd_base.APGDAttack(model, **common, **apgd, eot_iter=eot_queries)
        self._targeted = package.autopgd_base.APGDAttack_targeted(
            model, **common, **apgd, eot_iter=1, n_target_classes=targets
        )
        self._fab = package.fab_pt.FABAttack_PT(
            model, **common, n_iter=steps, n_restarts=1, targeted=True, n_target_classes=targets
        )
        self._square = package.square.SquareAttack(
            model, **common, n_queries=queries, p_init=_P_INIT, n_restarts=1, resc_schedule=False
        )
        if classes < 4:
            self._targeted.dlr_loss_targeted = self._targeted_margin
        if classes < 3:
            self._averaged.dlr_loss = margin

    def perturbed(self, name: str, images: Tensor, labels: Tensor) -> Tensor:
        """What an attack of version standard makes of a batch (M, C, H, W); clean where it fails."""
        attacks = {"apgd-ce": self._apgd, "apgd-t": self._targeted, "fab-t": self._fab, "square": self._square}
        adversarial: Tensor = attacks[name].perturb(images, labels)
        return adversarial.detach()

    def candidates(self, name: str, images: Tensor, labels: Tensor) -> list[Tensor]:
        """What an attack of version rand finds for a batch: the images of the highest loss, the last misclassified."""
        self._averaged.loss = {"apgd-ce": "ce", "apgd-dlr": "dlr"}[name]
        self._averaged.init_hyperparam(images)
        torch.manual_seed(self._seed)
        best, _, _, misclassified = self._averaged.attack_single_run(images, labels)
        return [best.detach(), misclassified.detach()]

    def _targeted_margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        rows = torch.arange(len(labels), device=labels.device)
        return logits[rows, self._targeted.y_target] - logits[rows, labels]
