"""What a suite can ask of attacks: one spec for each kind, with the published settings as defaults.

Every field that changes an adversarial image is here and so in the keys of the store. Names, variants and headlines
are the table's, and stay out of keys.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, model_validator

from rstbench.spec.attack_fields import (
    SMALLER_STEPS,
    Attack,
    Bounded,
    Budgeted,
    Distances,
    NormDistance,
    OnView,
)
from rstbench.spec.attack_fields import AttackEngine as AttackEngine
from rstbench.spec.base import Count, LinfDistance, NonNegative, Positive, linf_text

NOT_CRAFTED = {"report_as", "variant", "headline", "within_epsilon"}
"""Fields of an attack that do not change its images: of the table, or of the judgement."""


class CleanSpec(Attack):
    """No attack: natural accuracy."""

    kind: Literal["clean"] = "clean"
    of_epsilon: LinfDistance | None = Field(
        None, description="what the defense was trained for, where rows differ by it; written into the row's `eps`"
    )


class FgsmSpec(Bounded):
    """One signed gradient step (Goodfellow et al. 2015); fgsm_rs: from a uniform start (Wong et al. 2020)."""

    kind: Literal["fgsm", "fgsm_rs"]
    norm: Literal["linf"] = "linf"
    epsilon: LinfDistance = "8/255"
    step_size: LinfDistance | None = Field(None, description="default: epsilon for fgsm, 1.25 epsilon for fgsm_rs")
    smaller_step_sizes: Distances | None = Field(None, description=SMALLER_STEPS)

    def with_step_size(self, cifar: bool) -> FgsmSpec:
        """The same attack with its default step size written out."""
        if self.step_size is not None:
            return self
        factor = Fraction(1) if self.kind == "fgsm" else Fraction(5, 4)
        step = min(Fraction(self.epsilon) * factor, Fraction(1))
        return self.model_copy(update={"step_size": linf_text(str(step))})


class PgdSpec(Bounded):
    """Projected gradient descent (Madry et al. 2018) on the cross-entropy."""

    kind: Literal["pgd"]
    step_size: NormDistance | None = Field(
        None,
        description="default for linf: 2/255 at every epsilon on CIFAR (authors' code), epsilon / 4 on other data; "
        "for l2: 2.5 epsilon / steps",
    )
    smaller_step_sizes: Distances | None = Field(None, description=SMALLER_STEPS)
    steps: Count = 20
    restarts: Count = Field(1, description="the restart with the highest loss is kept")
    start: Literal["uniform", "zero"] = "uniform"
    stop: Literal["source_fooled", "never"] = Field(
        "never", description="source_fooled (authors' code): a sample stops once its source misclassifies it"
    )

    @model_validator(mode="after")
    def _one_draw(self) -> PgdSpec:
        if self.stop == "source_fooled" and self.view == "switch":
            raise ValueError("`stop: source_fooled` under view switch would stop an image at a single unlucky draw")
        return self

    def with_step_size(self, cifar: bool) -> PgdSpec:
        """The same attack with its default step size written out; `cifar`: whether the data is CIFAR."""
        if self.step_size is not None:
            return self
        if isinstance(self.epsilon, str):
            step = Fraction(2, 255) if cifar else Fraction(self.epsilon) / 4
            return self.model_copy(update={"step_size": f"{step.numerator}/{step.denominator}"})
        return self.model_copy(update={"step_size": 2.5 * self.epsilon / self.steps})


class ApgdSpec(Bounded):
    """Auto-PGD (Croce and Hein 2020), through AutoAttack's package."""

    kind: Literal["apgd"]
    loss: Literal["ce", "dlr"] = "ce"
    steps: Count = 100
    restarts: Count = 1
    keep: Literal["fooling", "best_loss"] = Field(
        "fooling",
        description="fooling: the last image that fools the view, or the one of the highest loss where none does; "
        "best_loss: the one of the highest loss in any case, for images that go on to another member",
    )


class CwL2Spec(OnView):
    """Carlini and Wagner (2017) in L2, AdverTorch's attack; minimum-norm, so nothing bounds its distance."""

    kind: Literal["cw_l2"]
    confidence: NonNegative = 0.0
    binary_search_steps: Count = 1
    iterations: Count = 100
    initial_const: Positive = 0.1
    lr: Positive = 0.01
    abort_early: bool = Field(
        True,
        description="end a search step for the whole batch once the sum of its losses has not fallen (AdverTorch); "
        "false: every iteration, for nearer images that do not depend on their batch, at several times the cost",
    )
    within_epsilon: Positive | None = Field(
        None,
        description="L2 distance beyond which an image does not count, and the clean one is judged in its place; "
        "default: any distance counts (the paper's column)",
    )

    @property
    def norm(self) -> Literal["l2"]:
        """Of its distances."""
        return "l2"


class CwInfSpec(Bounded):
    """Carlini and Wagner's margin loss under l-infinity.

    penalty: the loop of the L2 attack with the penalty sum(max(|delta| - tau, 0)), tau = epsilon at first, for each
    image its own; nothing projects, so images may lie outside epsilon. bounded: signed gradient steps on the margin,
    projected to epsilon.
    """

    kind: Literal["cw_inf"]
    form: Literal["penalty", "bounded"] = "penalty"
    norm: Literal["linf"] = "linf"
    epsilon: LinfDistance = "8/255"
    steps: Count = Field(100, description="of either form")
    initial_const: Positive = Field(0.1, description="penalty only")
    lr: Positive = Field(0.01, description="penalty only")
    step_size: LinfDistance | None = Field(
        None, description="bounded only, of the first of steps that halve after each sixth; default: 2 epsilon"
    )
    smaller_step_sizes: Distances | None = Field(None, description=f"bounded only, {SMALLER_STEPS}")
    within_epsilon: bool = Field(
        False, description="penalty only: beyond epsilon an image does not count, the clean one is judged in its place"
    )

    @model_validator(mode="after")
    def _bounded_before(self) -> CwInfSpec:
        if self.smaller_epsilons and self.form == "penalty":
            raise ValueError("`smaller_epsilons` with form penalty, whose images nothing bounds; use form bounded")
        return self

    def with_step_size(self, cifar: bool) -> CwInfSpec:
        """The same attack with its default step size written out."""
        if self.step_size is not None or self.form == "penalty":
            return self
        return self.model_copy(update={"step_size": linf_text(str(min(2 * Fraction(self.epsilon), Fraction(1))))})


class AutoAttackSpec(Bounded):
    """AutoAttack (Croce and Hein 2020), the published package, with its random numbers: one generator for each batch.

    standard: APGD-CE, targeted APGD-DLR, targeted FAB, Square, each on what the ones before it left standing.
    rand: APGD-CE and APGD-DLR with the gradient averaged over 20 queries. Target classes: nine, or as many as there
    are. Settings below 100 steps or 5000 queries are not AutoAttack's; the table says so.
    """

    kind: Literal["autoattack"]
    version: Literal["standard", "rand"] = "standard"
    steps: Count = Field(100, description="of APGD and FAB")
    square_queries: Count = 5000
    eot_queries: Count = Field(20, description="gradients averaged at every step, version rand only")


class SquareSpec(Bounded):
    """Square attack (Andriushchenko et al. 2020), black box: our own, with AutoAttack's settings."""

    kind: Literal["square"]
    queries: Count = 5000
    p_init: Annotated[float, Field(gt=0, le=1)] = Field(0.8, description="share of pixels changed at first")


class BanditsSpec(Bounded):
    """Bandits with time and data priors (Ilyas, Engstrom, Madry 2019), black box. Defaults: its authors'."""

    kind: Literal["bandits"]
    queries: Count = Field(
        10000,
        description="at most, for each image. Every answer counts: one for the clean image, three a step (its authors "
        "count the two of the gradient, and not the look at the new image)",
    )
    fd_eta: Positive | None = Field(None, description="default: 0.1 for linf, 0.01 for l2")
    image_lr: Positive | None = Field(None, description="default: 0.01 for linf, 0.5 for l2")
    online_lr: Positive | None = Field(None, description="default: 100 for linf, 0.1 for l2")
    exploration: Positive | None = Field(None, description="default: 1.0 for linf, 0.01 for l2")
    tile: Count | None = Field(
        None,
        description="pixels a side of the data prior; default: 50 for images above 64 pixels a side, "
        "that of the image (no prior) below",
    )

    def with_defaults(self) -> BanditsSpec:
        """The same attack with the defaults of its norm written out (`tile` stays: it depends on the images)."""
        linf = {"fd_eta": 0.1, "image_lr": 0.01, "online_lr": 100.0, "exploration": 1.0}
        l2 = {"fd_eta": 0.01, "image_lr": 0.5, "online_lr": 0.1, "exploration": 0.01}
        defaults = linf if self.norm == "linf" else l2
        return self.model_copy(update={name: v for name, v in defaults.items() if getattr(self, name) is None})


class ArcSpec(Budgeted):
    """ARC, the attack on randomised ensembles of Dbouk and Shanbhag (2022); always with all members in hand."""

    kind: Literal["arc"]
    steps: Count = 20
    rho: Annotated[float, Field(ge=0, le=1)] = Field(0.05, description="margin beyond a boundary, in epsilon")
    rivals: Count = Field(4, description="classes, by logit, whose boundaries are considered")


class HingeSpec(Budgeted):
    """Descent of the expected accuracy of a switch on hinged margins over sets of its members: our own, beside ARC."""

    kind: Literal["hinge"]
    steps: Count = 50
    restarts: Count = Field(20, description="sets of members tried, the likeliest first, each twice")


AllMembersSpec = ArcSpec | HingeSpec
"""Attacks that take the members of a switch themselves, and no view of them."""

CraftedSpec = (
    FgsmSpec
    | PgdSpec
    | ApgdSpec
    | CwL2Spec
    | CwInfSpec
    | AutoAttackSpec
    | SquareSpec
    | BanditsSpec
    | ArcSpec
    | HingeSpec
)
"""Attacks that make images; each is a craft node."""

BLACK_BOX = ("square", "bandits")
"""Kinds that ask for answers only."""
