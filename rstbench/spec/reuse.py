"""Worst cases over several epsilons: what an attack with `smaller_epsilons` is made after.

An image that fools a network within one distance fools it within every larger one. So an adversary that may go as far
as epsilon can start from what was found nearer, and attack only what still stands. For a deterministic network that is
attacked and judged itself this is exact: what is kept is judged afresh, and the accuracy at epsilon is at most that
at each smaller one. Where images go on to other networks it would change what they are handed, and is refused.
"""

from __future__ import annotations

from typing import Any

from rstbench.spec.attack_fields import Bounded
from rstbench.spec.attacks import CraftedSpec, CwInfSpec, FgsmSpec, PgdSpec


def smaller(attack: CraftedSpec) -> CraftedSpec | None:
    """The same attack at the largest of its smaller epsilons, which itself is made after the rest; None: there is none.

    attack: with its steps written out (`steps_written_out`), if it has a step size.
    """
    if not isinstance(attack, Bounded) or not attack.smaller_epsilons:
        return None
    *rest, epsilon = attack.smaller_epsilons
    changes: dict[str, Any] = {"epsilon": epsilon, "smaller_epsilons": tuple(rest)}
    if isinstance(attack, FgsmSpec | PgdSpec | CwInfSpec) and attack.smaller_step_sizes is not None:
        *steps, step = attack.smaller_step_sizes
        changes |= {"step_size": step, "smaller_step_sizes": tuple(steps) if rest else None}
    return attack.model_copy(update=changes)


def steps_written_out(attack: FgsmSpec | PgdSpec | CwInfSpec, cifar: bool) -> FgsmSpec | PgdSpec | CwInfSpec:
    """The attack with `smaller_step_sizes` written out: before `step_size` is, from which they follow where it is set.

    cifar: whether the data is CIFAR.
    """
    if attack.smaller_step_sizes is not None or not attack.smaller_epsilons:
        return attack
    at = [attack.model_copy(update={"epsilon": epsilon}).with_step_size(cifar) for epsilon in attack.smaller_epsilons]
    return attack.model_copy(update={"smaller_step_sizes": tuple(each.step_size for each in at)})
