"""Runs of AutoAttack that are small enough for tests."""

from __future__ import annotations

from torch import Tensor, nn

from rstbench.attacks.autoattack import autoattack
from rstbench.attacks.found import Found
from rstbench.attacks.threat import Threat
from rstbench.defenses.view import CallableView
from tests.attacks.digits import trained

SMALL = {"version": "standard", "batch": 8, "seed": 3, "steps": 5, "square_queries": 15, "eot_queries": 3}
LINF, L2 = Threat("linf", 0.06), Threat("l2", 0.35)


def attack(view: object, inputs: Tensor, labels: Tensor, threat: Threat = LINF, **options: object) -> Found:
    view = CallableView(view) if isinstance(view, nn.Module) else view
    return autoattack(view, inputs, labels, threat=threat, **(SMALL | options))  # type: ignore[arg-type]


def hard(count: int) -> tuple[nn.Module, Tensor, Tensor]:
    network, inputs, labels = trained()
    return network, inputs[:count], labels[:count]
