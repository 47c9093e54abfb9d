"""What an attack may change, and what it costs, read off its spec."""

from __future__ import annotations

from rstbench.spec.attack_fields import Bounded
from rstbench.spec.attacks import (
    BLACK_BOX,
    AllMembersSpec,
    ApgdSpec,
    ArcSpec,
    AutoAttackSpec,
    BanditsSpec,
    CraftedSpec,
    CwInfSpec,
    CwL2Spec,
    FgsmSpec,
    HingeSpec,
    PgdSpec,
)
from rstbench.spec.base import distance
from rstbench.spec.effort import STANDING
from rstbench.spec.reuse import steps_written_out


def budget(attack: CraftedSpec) -> tuple[str, float] | None:
    """(norm, epsilon) that the attack's images keep, epsilon in units of the pixel range; None: nothing bounds them."""
    if isinstance(attack, CwL2Spec) or (isinstance(attack, CwInfSpec) and attack.form == "penalty"):
        return None
    return attack.norm, distance(attack.epsilon)


def judged_within(attack: CraftedSpec) -> tuple[str, float] | None:
    """(norm, epsilon) beyond which an image does not count at the verdict; None: every image does."""
    if isinstance(attack, CwL2Spec):
        return None if attack.within_epsilon is None else ("l2", attack.within_epsilon)
    if isinstance(attack, CwInfSpec) and attack.within_epsilon:
        return "linf", distance(attack.epsilon)
    return None


_LARGE_IMAGE, _LARGE_TILE = 64, 50
"""Bandits: above so many pixels a side, the data prior has so many (its authors' choice for ImageNet)."""


def written_out(attack: CraftedSpec, cifar: bool, image_size: int = 0, ours: bool | None = None) -> CraftedSpec:
    """The attack with every default that depends on other fields or on the data written out.

    cifar: whether the data is CIFAR; image_size: pixels a side, if known; ours: whether rstbench built the networks
    that are attacked, None: not known yet, which leaves the engine's layout open. Fields that mean nothing to the
    attack or under its view get their defaults, so that equal work has one spec.
    """
    if ours is not None:
        attack = attack.model_copy(update={"engine": attack.engine.with_layout(ours)})
    if isinstance(attack, FgsmSpec | PgdSpec | CwInfSpec):
        attack = steps_written_out(attack, cifar).with_step_size(cifar)
    if isinstance(attack, BanditsSpec):
        attack = attack.with_defaults()
        if attack.tile is None and image_size > _LARGE_IMAGE:
            attack = attack.model_copy(update={"tile": _LARGE_TILE})
    view = "" if isinstance(attack, AllMembersSpec) else attack.view
    engine = attack.engine.asking(view)
    if attack.kind in BLACK_BOX:  # precision is that of gradients
        engine = engine.model_copy(update={"precision": "fp32"})
    attack = attack.model_copy(update={"engine": engine})
    if not isinstance(attack, AllMembersSpec):
        if attack.view != "ensemble":
            attack = attack.model_copy(update={"average": "logits"})
        if attack.view != "eot":
            attack = attack.model_copy(update={"expectation": "mean_loss"})
    return attack


def reported_budget(attack: CraftedSpec) -> tuple[str, str]:
    """(norm, epsilon) as tables write them: in units of 1/255 for linf, of the pixel range for L2; empty if unbounded.

    The penalty form of CW-Inf reports the epsilon that its tau starts from, as the paper does.
    """
    if isinstance(attack, CwL2Spec):
        return "l2", "" if attack.within_epsilon is None else f"{attack.within_epsilon:.6g}"
    return attack.norm, epsilon_text(attack.epsilon) if isinstance(attack.epsilon, str) else f"{attack.epsilon:.6g}"


def epsilon_text(epsilon: str) -> str:
    """An l-infinity epsilon as tables write it: in units of 1/255."""
    return f"{distance(epsilon) * 255:.6g}"


_STANDARD_FIRST, _STANDARD_STEP, _STANDARD_QUERY = 2.64, 53.3, 1.16
"""AutoAttack standard: passes of one surviving image per step of its first attack, per step of the others (nine
targets), and per query of its Square."""


_UNTIL_ABORTED = 0.125
"""Share of its iterations after which CW-L2 gives a batch up where it may: it looks after each tenth, and nearly always
ended at the first look on quarter-width networks."""


def passes(attack: CraftedSpec) -> float:
    """Passes of one image through one network, for estimates. A gradient counts as two.

    What leaves out images that fell (AutoAttack's later attacks, black boxes, ARC and hinge, PGD with `stop:
    source_fooled`), or that have converged (the penalty form of CW-Inf), goes on with half of them, it is assumed.
    So does an attack with smaller epsilons, after one look at each image; what these cost themselves is not in it.
    """
    if isinstance(attack, Bounded) and attack.smaller_epsilons:
        return 1.0 + STANDING * _passes_attacked(attack)
    return _passes_attacked(attack)


def _passes_attacked(attack: CraftedSpec) -> float:
    match attack:
        case FgsmSpec():
            return 2.0
        case PgdSpec():
            return 2.0 * attack.restarts * attack.steps * (STANDING if attack.stop == "source_fooled" else 1.0)
        case ApgdSpec():
            return 2.0 * attack.restarts * (attack.steps + 1)
        case CwL2Spec():
            share = _UNTIL_ABORTED if attack.abort_early else 1.0
            return 2.0 * attack.binary_search_steps * attack.iterations * share
        case CwInfSpec():
            return 2.0 * attack.steps * (STANDING if attack.form == "penalty" else 1.0)
        case AutoAttackSpec():
            if attack.version == "rand":
                return 4.0 * attack.eot_queries * (attack.steps + 1)
            later = _STANDARD_STEP * attack.steps + _STANDARD_QUERY * attack.square_queries
            return _STANDARD_FIRST * attack.steps + STANDING * later
        case ArcSpec():
            return STANDING * attack.steps * (2 + attack.rivals)
        case HingeSpec():
            return STANDING * 2.0 * attack.restarts * (attack.steps + 1)
        case _:
            return STANDING * attack.queries
