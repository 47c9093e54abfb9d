"""Fields that attacks share: numerics, names in tables, view, budget."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from rstbench.spec.base import Count, Name, Spec, distance, linf_text
from rstbench.spec.training import Engine


class AttackEngine(Engine):
    """Numerics of crafting. Verdicts are always fp32, on the network as it is, so nothing here touches them."""

    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="bf16: of gradients, in all layers but the first and the classifier (of models from elsewhere, "
        "autocast). Answers without gradients are fp32, so black boxes are, and some images are attacked in fp32 to "
        "compare",
    )
    layout: Literal["contiguous", "channels_last"] | None = Field(  # type: ignore[assignment]
        None, description="default: channels_last for rstbench's own networks, contiguous for models from elsewhere"
    )
    folding: bool = Field(
        True, description="batch norm folded into convolutions, for rstbench's own networks; others stay as they are"
    )
    compiler: Literal["none", "inductor"] = Field(
        "none",
        description="inductor: torch.compile, which reorders sums. Not CUDA graphs: what still stands has no fixed "
        "number of images",
    )
    members: Literal["one_by_one", "together"] = Field(
        "one_by_one",
        description="together: views eot and ensemble ask all members in one pass, where they are of one architecture",
    )

    def with_layout(self, ours: bool) -> AttackEngine:
        """The same engine with its default layout written out; ours: whether rstbench built the networks."""
        if self.layout is not None:
            return self
        return self.model_copy(update={"layout": "channels_last" if ours else "contiguous"})

    def asking(self, view: str) -> AttackEngine:
        """The same engine for a view: only `eot` and `ensemble` can ask all members together."""
        if view in ("eot", "ensemble") or self.members == "one_by_one":
            return self
        return self.model_copy(update={"members": "one_by_one"})


class Reported(Spec):
    """How an attack appears in tables."""

    report_as: Name | None = Field(None, description="name in the table's `attack` column; default: the key")
    variant: str = Field("", max_length=60, description="the table's `variant` column; empty: the paper's protocol")
    headline: bool = Field(False, description="the row that rstbench stands behind; marked in tables")


class Attack(Reported):
    """What every attack has."""

    samples: Count | None = Field(None, description="test images attacked (seeded choice); default: all")
    batch: Count = Field(256, description="numerical batch, the last one padded")
    engine: AttackEngine = AttackEngine()


def _in_units_of_norm(value: Any, info: ValidationInfo) -> Any:
    if value is None or "norm" not in info.data:  # a wrong norm is a fault of its own
        return value
    if info.data["norm"] == "linf":
        return linf_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError("an L2 distance is a number above 0, e.g. 0.5")
    return float(value)


NormDistance = Annotated[
    str | float,
    BeforeValidator(_in_units_of_norm),
    Field(description='linf: text such as "8/255" or "0.03"; l2: a number', examples=["8/255", 0.5]),
]
"""A distance in the units of the `norm` field that stands before it: text for linf, a number for L2."""


class OnView(Attack):
    """An attack that sees the defense through a view."""

    view: Literal["member", "eot", "ensemble", "switch"] = Field(
        "member",
        description="what the adversary of a switching defense computes with. member: one fixed member, every one in "
        "turn (transfer matrix); eot: the exact expectation over members; ensemble: their averaged prediction; "
        "switch: the defense itself, which draws a member for every image of every query",
    )
    average: Literal["logits", "probabilities"] = Field(
        "logits", description="what view `ensemble` averages; the paper does not say"
    )
    expectation: Literal["mean_loss", "mean_unit_gradient"] = Field(
        "mean_loss",
        description="what view `eot` follows. mean_loss: the gradient of the members' mean loss, which is the mean of "
        "their gradients; mean_unit_gradient: the mean of gradients scaled to unit length each, so that a member that "
        "is sure of itself counts no less. The paper does not say",
    )


class Budgeted(Attack):
    """Attacks with a budget: their images lie within epsilon, but for the penalty form of `cw_inf`."""

    norm: Literal["linf", "l2"] = "linf"
    epsilon: NormDistance = "8/255"

    @model_validator(mode="after")
    def _units(self) -> Self:
        if isinstance(self.epsilon, str) != (self.norm == "linf"):  # left out: the default is l-infinity's
            raise ValueError("`epsilon` has no default for norm l2; give a number, e.g. 0.5")
        return self


Distances = Annotated[tuple[NormDistance, ...], Field(strict=False)]


class Bounded(OnView, Budgeted):
    """The same, against a view."""

    smaller_epsilons: Distances = Field(
        (),
        description="ascending, below `epsilon`: the attack is made at each of them first; images that fool the "
        "network within one are kept, and only the others are attacked at the next. A worst case of one network, "
        "attacked and judged itself; recorded, and flagged in tables",
    )

    @model_validator(mode="after")
    def _worst_case(self) -> Self:
        if not self.smaller_epsilons:
            if getattr(self, "smaller_step_sizes", None) is not None:
                raise ValueError("`smaller_step_sizes` are those at `smaller_epsilons`, and there are none")
            return self
        if self.view != "member":
            raise ValueError(
                f"`smaller_epsilons` with view {self.view}: what fools some members within a smaller epsilon would be "
                "handed on to the others; it is for one network, with view member"
            )
        lengths = [0.0, *map(distance, self.smaller_epsilons), distance(self.epsilon)]
        if any(one >= other for one, other in pairwise(lengths)):
            raise ValueError("`smaller_epsilons` ascend, from above 0 to below `epsilon`")
        steps = getattr(self, "smaller_step_sizes", None)
        if steps is not None and len(steps) != len(self.smaller_epsilons):
            raise ValueError(f"{len(steps)} `smaller_step_sizes` for {len(self.smaller_epsilons)} `smaller_epsilons`")
        return self


SMALLER_STEPS = "one for each of `smaller_epsilons`; default: `step_size` if given, else the default of each epsilon"
