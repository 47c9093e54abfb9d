"""What a suite can defend: dense networks, tickets of every kind, and switches between them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rstbench.spec.base import Name, NonNegative, Ratio, Seed, Spec
from rstbench.spec.foreign import ForeignSpec
from rstbench.spec.models import INITS, PATTERNS

Checkpoint = Literal["best_on_validation", "last"]
Probabilities = Annotated[tuple[NonNegative, ...], Field(strict=False)]

_OFFSET = "added to the seed of the suite: another random network, searched or trained with other draws"


class _Fields(Spec):
    report_as: Name | None = Field(None, description="name in the table's `defense` column; default: the key")


class DenseSpec(_Fields):
    """A dense network, naturally or adversarially trained."""

    kind: Literal["dense"]
    training: Name = Field(description="key in `trainings`")
    init: Literal[INITS] = "kaiming_normal"  # type: ignore[valid-type]
    bn_affine: bool = Field(True, description="not stated in the paper")
    classifier_bias: bool = Field(True, description="not stated in the paper")
    checkpoint: Checkpoint = "best_on_validation"
    seed_offset: Seed = Field(0, description=_OFFSET)


class Tuning(Spec):
    """Fine-tuning: the weights that the mask keeps are trained, the mask is frozen (paper, Section 5.1)."""

    training: Name = Field(description="key in `trainings`")
    start: Literal["inherited", "reinitialised"] = Field(
        description="inherited: the ticket's own weights; reinitialised: drawn anew, from the seed of the suite + 1"
    )
    checkpoint: Checkpoint = "best_on_validation"


class _TicketFields(_Fields):
    search: Name = Field(description="key in `searches`")
    pattern: Literal[PATTERNS] = "element"  # type: ignore[valid-type]
    init: Literal[INITS] = "signed_kaiming_constant"  # type: ignore[valid-type]
    checkpoint: Checkpoint = "best_on_validation"
    seed_offset: Seed = Field(0, description=_OFFSET)
    search_offset: Seed = Field(
        0, description="added to the seed of the search alone: other scores and draws, in the same random network"
    )
    weights: Name | None = Field(
        None,
        description="key in `defenses`, of kind dense: draw the ticket from its trained weights, not from random ones "
        "(a robust trained ticket, RTT; paper, Section 5.2). A `seed_offset` of the ticket counts for them too",
    )
    weights_dataset: Name | None = Field(
        None,
        description="key in `datasets`: what those weights were trained on, if not the cell's own data set (a "
        "transferred RTT, whose classifier is drawn anew; paper, Section 6.3)",
    )
    tuning: Tuning | None = Field(None, description="train the weights that the ticket keeps")

    @model_validator(mode="after")
    def _one_source(self) -> _TicketFields:
        if self.weights is not None and "init" in self.model_fields_set:
            raise ValueError("`init` draws random weights, and `weights` takes trained ones; name one of them")
        if self.weights_dataset is not None and self.weights is None:
            raise ValueError("`weights_dataset` says what `weights` were trained on, and there are no `weights`")
        return self


class TicketSpec(_TicketFields):
    """One ticket: of random weights (RST), of trained ones (RTT), or fine-tuned."""

    kind: Literal["ticket"]
    ratio: Ratio


class TicketsSpec(_TicketFields):
    """A series of tickets over remaining ratios: a cell that names it stands for one cell for each of them."""

    kind: Literal["tickets"]
    ratios: Annotated[tuple[Ratio, ...], Field(min_length=1, strict=False)]

    @model_validator(mode="after")
    def _distinct(self) -> TicketsSpec:
        if len(set(self.ratios)) != len(self.ratios):
            raise ValueError("the ratios must differ")
        return self

    def at(self, ratio: float) -> TicketSpec:
        """The ticket of one ratio of the series."""
        fields = {name: getattr(self, name) for name in self.model_fields_set - {"kind", "ratios"}}
        return TicketSpec(kind="ticket", ratio=ratio, **fields)


class R2sSpec(_TicketFields):
    """Random switch between tickets of one network (paper, Section 6.2)."""

    kind: Literal["r2s"]
    ratios: Annotated[tuple[Ratio, ...], Field(min_length=2, strict=False)]
    probabilities: Probabilities | None = Field(
        None, description="of the members at inference, same order as ratios; default: uniform"
    )

    @model_validator(mode="after")
    def _distribution(self) -> R2sSpec:
        if len(set(self.ratios)) != len(self.ratios):
            raise ValueError("the candidate ratios must differ")
        _check_probabilities(self.probabilities, len(self.ratios), "ratios")
        return self


class LotterySpec(_Fields):
    """An adversarially trained lottery ticket, the comparison of the paper's Section 4.7.

    The dense network `weights` is trained; each layer keeps its largest weights by magnitude; they go back to their
    initial values and are trained again under the frozen mask. Found in one round of pruning; the work that the paper
    compares with (Li et al. 2020) prunes in several, and the paper gives no more than its accuracy.
    """

    kind: Literal["lottery"]
    ratio: Ratio
    weights: Name = Field(description="key in `defenses`, of kind dense: what is pruned")
    training: Name = Field(description="key in `trainings`: how what is kept is trained")
    checkpoint: Checkpoint = "best_on_validation"


class SwitchSpec(_Fields):
    """Random switch between any single networks: the matched controls of R2S."""

    kind: Literal["switch"]
    members: Annotated[tuple[Name, ...], Field(min_length=2, strict=False)] = Field(
        description="keys in `defenses`, of kind dense, ticket or lottery"
    )
    probabilities: Probabilities | None = Field(
        None, description="of the members at inference, in their order; default: uniform"
    )

    @model_validator(mode="after")
    def _distribution(self) -> SwitchSpec:
        _check_probabilities(self.probabilities, len(self.members), "members")
        return self


class EnsembleSpec(_Fields):
    """The deterministic ensemble of a switch's members: the class of the largest average."""

    kind: Literal["ensemble"]
    of: Name = Field(description="key in `defenses`, of kind r2s or switch")
    average: Literal["logits", "probabilities"] = "logits"


def _check_probabilities(probabilities: tuple[float, ...] | None, count: int, what: str) -> None:
    if probabilities is None:
        return
    if len(probabilities) != count:
        raise ValueError(f"{len(probabilities)} probabilities for {count} {what}")
    if abs(sum(probabilities) - 1.0) > 1e-9:
        raise ValueError(f"the probabilities sum to {sum(probabilities):g}, not 1")


SINGLE = ("dense", "ticket", "lottery", "model")
"""Kinds of defenses that are one deterministic network."""

SwitchingSpec = R2sSpec | SwitchSpec
"""Defenses that draw one of their members for every inference."""

DefenseSpec = Annotated[
    DenseSpec | TicketSpec | TicketsSpec | R2sSpec | LotterySpec | SwitchSpec | EnsembleSpec | ForeignSpec,
    Field(discriminator="kind"),
]
