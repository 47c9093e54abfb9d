"""The attacks that follow gradients, under one calling convention: (view, inputs, labels, epsilon, draws) -> Found."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from rstbench.attacks.cw_inf import cw_inf_bounded, cw_inf_penalty
from rstbench.attacks.cw_l2 import cw_l2
from rstbench.attacks.draws import Draws
from rstbench.attacks.fgsm import fgsm
from rstbench.attacks.found import Found
from rstbench.attacks.pgd import pgd
from rstbench.attacks.threat import Threat
from rstbench.defenses.view import View

Attack = Callable[[View, Tensor, Tensor, float, Draws], Found]


def _fgsm(view: View, inputs: Tensor, labels: Tensor, epsilon: float, draws: Draws, *, start: str) -> Found:
    step = epsilon if start == "zero" else 1.25 * epsilon
    return fgsm(view, inputs, labels, threat=Threat("linf", epsilon), draws=draws, step_size=step, start=start)


def _pgd(
    view: View,
    inputs: Tensor,
    labels: Tensor,
    epsilon: float,
    draws: Draws,
    *,
    norm: str,
    steps: int,
    **options: object,
) -> Found:
    threat, step = Threat(norm, epsilon), epsilon / 4 if norm == "linf" else 2.5 * epsilon / steps
    return pgd(view, inputs, labels, threat=threat, draws=draws, step_size=step, steps=steps, **options)  # type: ignore[arg-type]


def _bounded(view: View, inputs: Tensor, labels: Tensor, epsilon: float, draws: Draws, *, steps: int) -> Found:
    threat = Threat("linf", epsilon)
    return cw_inf_bounded(view, inputs, labels, threat=threat, draws=draws, steps=steps, step_size=2 * epsilon)


def _penalty(
    view: View, inputs: Tensor, labels: Tensor, epsilon: float, draws: Draws, *, steps: int, const: float
) -> Found:
    return cw_inf_penalty(view, inputs, labels, tau=epsilon, steps=steps, initial_const=const)


def _cw_l2(
    view: View, inputs: Tensor, labels: Tensor, epsilon: float, draws: Draws, *, steps: int, const: float
) -> Found:
    classes = view.logits(inputs[:1]).shape[1]
    return cw_l2(view, inputs, labels, classes=classes, iterations=steps, initial_const=const)


def gradient_attacks(steps: int, cw_steps: int) -> dict[str, tuple[str | None, Attack]]:
    """Name -> (norm of its budget or None, attack)."""
    return {
        "fgsm": ("linf", partial(_fgsm, start="zero")),
        "fgsm_rs": ("linf", partial(_fgsm, start="uniform")),
        "pgd_never": ("linf", partial(_pgd, norm="linf", steps=steps)),
        "pgd_source_fooled": ("linf", partial(_pgd, norm="linf", steps=steps, stop="source_fooled")),
        "pgd_restarts": ("linf", partial(_pgd, norm="linf", steps=steps, restarts=2)),
        "pgd_l2_never": ("l2", partial(_pgd, norm="l2", steps=steps)),
        "pgd_l2_source_fooled": ("l2", partial(_pgd, norm="l2", steps=steps, stop="source_fooled", restarts=2)),
        "cw_inf_bounded": ("linf", partial(_bounded, steps=cw_steps)),
        "cw_inf_penalty": (None, partial(_penalty, steps=cw_steps, const=0.1)),
        "cw_inf_penalty_strong": (None, partial(_penalty, steps=cw_steps, const=1000.0)),
        "cw_l2": (None, partial(_cw_l2, steps=cw_steps, const=0.1)),
        "cw_l2_strong": (None, partial(_cw_l2, steps=cw_steps, const=10.0)),
    }
