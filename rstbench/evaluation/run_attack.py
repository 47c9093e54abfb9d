"""From an attack's spec to the call of its function, for one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor

from rstbench.attacks.apgd import apgd
from rstbench.attacks.arc import arc
from rstbench.attacks.bandits import bandits
from rstbench.attacks.cw_inf import cw_inf_bounded, cw_inf_penalty
from rstbench.attacks.cw_l2 import cw_l2
from rstbench.attacks.draws import Draws
from rstbench.attacks.fgsm import fgsm
from rstbench.attacks.found import Found
from rstbench.attacks.hinge import hinge
from rstbench.attacks.pgd import pgd
from rstbench.attacks.square import square
from rstbench.attacks.threat import Threat
from rstbench.defenses.view import View
from rstbench.defenses.views import Member
from rstbench.errors import SpecError
from rstbench.spec.attacks import (
    ApgdSpec,
    ArcSpec,
    BanditsSpec,
    CraftedSpec,
    CwInfSpec,
    CwL2Spec,
    FgsmSpec,
    HingeSpec,
    PgdSpec,
    SquareSpec,
)
from rstbench.spec.base import distance
from rstbench.spec.budgets import budget

T = TypeVar("T")

_OPEN = "a default of the attack is left open; `spec.budgets.written_out` writes it out"


def run_attack(
    spec: CraftedSpec,
    view: View,
    members: Sequence[Member],
    weights: Sequence[float],
    inputs: Tensor,
    labels: Tensor,
    draws: Draws,
    classes: int,
) -> Found:
    """Attack one batch, or a block of them, float32 (N, C, H, W) in [0, 1], on the view's device.

    Every attack but AutoAttack.

    members and weights: of the defense, for ARC and hinge, which take no view. Raises `SpecError` for a spec whose
    defaults are not written out (`spec.budgets.written_out`).
    """
    match spec:
        case FgsmSpec():
            start = "zero" if spec.kind == "fgsm" else "uniform"
            step = _length(spec.step_size)
            return fgsm(view, inputs, labels, threat=_threat(spec), draws=draws, step_size=step, start=start)
        case PgdSpec():
            return pgd(
                view,
                inputs,
                labels,
                threat=_threat(spec),
                draws=draws,
                step_size=_length(spec.step_size),
                steps=spec.steps,
                restarts=spec.restarts,
                start=spec.start,
                stop=spec.stop,
            )
        case ApgdSpec():
            return apgd(
                view,
                inputs,
                labels,
                threat=_threat(spec),
                draws=draws,
                loss=spec.loss,
                steps=spec.steps,
                restarts=spec.restarts,
                keep=spec.keep,
            )
        case CwL2Spec():
            return cw_l2(
                view,
                inputs,
                labels,
                classes=classes,
                confidence=spec.confidence,
                binary_search_steps=spec.binary_search_steps,
                iterations=spec.iterations,
                initial_const=spec.initial_const,
                lr=spec.lr,
                abort_early=spec.abort_early,
            )
        case CwInfSpec(form="penalty"):
            tau = distance(spec.epsilon)
            return cw_inf_penalty(
                view, inputs, labels, tau=tau, steps=spec.steps, initial_const=spec.initial_const, lr=spec.lr
            )
        case CwInfSpec():
            step = _length(spec.step_size)
            return cw_inf_bounded(
                view, inputs, labels, threat=_threat(spec), draws=draws, steps=spec.steps, step_size=step
            )
        case SquareSpec():
            return square(
                view, inputs, labels, threat=_threat(spec), draws=draws, queries=spec.queries, p_init=spec.p_init
            )
        case BanditsSpec():
            return bandits(
                view,
                inputs,
                labels,
                threat=_threat(spec),
                draws=draws,
                queries=spec.queries,
                fd_eta=_given(spec.fd_eta),
                image_lr=_given(spec.image_lr),
                online_lr=_given(spec.online_lr),
                exploration=_given(spec.exploration),
                tile=spec.tile,
            )
        case ArcSpec():
            return arc(
                members,
                weights,
                inputs,
                labels,
                threat=_threat(spec),
                steps=spec.steps,
                rho=spec.rho,
                rivals=spec.rivals,
                batch=spec.batch,
            )
        case HingeSpec():
            return hinge(
                members,
                weights,
                inputs,
                labels,
                threat=_threat(spec),
                draws=draws,
                steps=spec.steps,
                restarts=spec.restarts,
                batch=spec.batch,
                confirm=spec.engine.precision != "fp32",
            )
        case _:
            raise SpecError(f"attack {spec.kind} does not work batch by batch")


def _threat(spec: CraftedSpec) -> Threat:
    kept = budget(spec)
    if kept is None:
        raise SpecError(f"attack {spec.kind} needs a budget: norm and epsilon")
    return Threat(*kept)


def _length(step_size: str | float | None) -> float:
    if step_size is None:
        raise SpecError(_OPEN)
    return distance(step_size)


def _given(value: T | None) -> T:
    if value is None:
        raise SpecError(_OPEN)
    return value
