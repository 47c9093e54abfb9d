"""What a suite can ask of data, networks, searches and defenses: leaves of the schema.

Every field that changes bits of a result is here and so in the keys of the store. Defaults are the paper's
setting (its text first, its authors' code where the text is silent); a comment names the source.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, model_validator

from rstbench.spec.base import Count, LinfDistance, Name, NonNegative, Positive, Ratio, Seed, Spec
from rstbench.spec.foreign import ForeignSpec

SOURCES = ("digits", "digits20", "cifar10", "cifar100", "svhn", "mnist", "imagenet", "folder", "arrays")
FAMILIES = (
    "preact_resnet18", "preact_resnet10", "cifar_resnet18", "wide_resnet34", "wide_resnet16", "wide_resnet10",
    "resnet18", "resnet50", "resnet101",
)  # fmt: skip
INITS = ("signed_kaiming_constant", "kaiming_normal", "kaiming_uniform", "xavier_normal")
PATTERNS = ("element", "row", "kernel", "channel")


class DatasetSpec(Spec):
    """A data set and how it is cut. Content is identified by its fingerprint, not by this spec."""

    source: Literal[SOURCES]  # type: ignore[valid-type]
    name: Name | None = Field(None, description="folder or npz name inside the data directory (sources folder, arrays)")
    image_size: Annotated[int, Field(ge=4, le=1024)] | None = Field(
        None, description="pixels a side after resize and centre crop (sources imagenet, folder)"
    )
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.02, description="share of the training set, stratified, kept for choosing the best epoch"
    )
    validation_seed: Seed = 0

    @model_validator(mode="after")
    def _named(self) -> DatasetSpec:
        if (self.name is not None) != (self.source in ("folder", "arrays")):
            raise ValueError("`name` is needed by the sources folder and arrays, and allowed only there")
        return self


class NetworkSpec(Spec):
    """An architecture. Number of classes, image size and normalisation come from the data set.

    family `external`: whatever architecture a defense of kind `model` brings with it; no other defense can use it.
    """

    family: Literal[*FAMILIES, "external"]  # type: ignore[valid-type]
    width: Annotated[float, Field(gt=0.0, le=4.0)] = Field(
        1.0, description="multiplier of every channel count; 1 is the family's published width"
    )


class InnerAttack(Spec):
    """The inner maximisation of the search (paper, Eq. 1 and Section 4.6), always l-infinity."""

    kind: Literal["none", "fgsm", "fgsm_rs", "pgd"] = "pgd"
    epsilon: LinfDistance = "8/255"
    step_size: LinfDistance | None = Field(
        None, description="default: 2/255 for pgd (authors' code), epsilon for fgsm, 1.25 epsilon for fgsm_rs"
    )
    steps: Count = Field(7, description="pgd only")

    def with_step_size(self) -> InnerAttack:
        """The same attack with its default step size written out."""
        if self.step_size is not None:
            return self
        epsilon = Fraction(self.epsilon)
        step = {"none": Fraction(0), "pgd": Fraction(2, 255), "fgsm": epsilon, "fgsm_rs": epsilon * 5 / 4}[self.kind]
        return self.model_copy(update={"step_size": f"{step.numerator}/{step.denominator}"})


class LrSchedule(Spec):
    """Learning rate over the run. multistep: the paper's CIFAR schedule; cosine: its ImageNet schedule."""

    kind: Literal["constant", "multistep", "cosine"] = "multistep"
    milestones: tuple[Count, ...] = Field((80, 120), description="epochs; multistep only", strict=False)
    factor: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="multistep only")
    warmup_epochs: NonNegative = Field(0.0, description="linear warm-up, in epochs")


class Augmentation(Spec):
    """Random crop after zero padding, and horizontal flip, drawn per image and step."""

    padding: Annotated[int, Field(ge=0, le=64)] = Field(4, description="pixels")
    flip: bool = True


class Engine(Spec):
    """Numerics of the work; each field changes bits, so each is part of the key."""

    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16: autocast; verdicts are always fp32")
    layout: Literal["contiguous", "channels_last"] = "contiguous"
    threads: Count = Field(1, description="CPU threads of the worker that runs the node")


class Validation(Spec):
    """How the best epoch is chosen: robust accuracy under PGD on the validation part, never on test images."""

    every: Count = Field(1, description="epochs between validations; the last epoch is always validated")
    steps: Count = Field(7, description="PGD steps, uniform start, step size 2.5 epsilon / steps")
    epsilon: LinfDistance | None = Field(None, description="default: that of the inner attack; 0: natural accuracy")


class TrainingSpec(Spec):
    """One optimisation run: of mask scores (a search) or of weights (a dense baseline). Paper, Appendix B."""

    epochs: Count = 160
    batch: Count = 256
    lr: Positive = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegative = Field(5e-4, description="authors' code; the text does not say")
    lr_schedule: LrSchedule = LrSchedule()
    augmentation: Augmentation = Augmentation()
    inner: InnerAttack = InnerAttack()
    inner_bn: Literal["train", "eval"] = Field(
        "train", description="mode of batch norm inside the inner attack; the authors' code leaves it in training mode"
    )
    validation: Validation = Validation()
    engine: Engine = Engine()


class SearchSpec(TrainingSpec):
    """Edge-popup with an adversarial inner loop (paper, Eq. 1)."""

    rank: Literal["abs_score", "score"] = Field(
        "abs_score", description="what is ranked: |s| as the authors' code does, or s as the text says"
    )


class DenseSpec(Spec):
    """A dense network, naturally or adversarially trained."""

    kind: Literal["dense"]
    report_as: Name | None = Field(None, description="name in the table's `defense` column; default: the key")
    training: Name = Field(description="key in `trainings`")
    init: Literal[INITS] = "kaiming_normal"  # type: ignore[valid-type]
    bn_affine: bool = Field(True, description="not stated in the paper")
    classifier_bias: bool = Field(True, description="not stated in the paper")
    checkpoint: Literal["best_on_validation", "last"] = "best_on_validation"


class _TicketFields(Spec):
    report_as: Name | None = Field(None, description="name in the table's `defense` column; default: the key")
    search: Name = Field(description="key in `searches`")
    pattern: Literal[PATTERNS] = "element"  # type: ignore[valid-type]
    init: Literal[INITS] = "signed_kaiming_constant"  # type: ignore[valid-type]
    checkpoint: Literal["best_on_validation", "last"] = "best_on_validation"


class TicketDefenseSpec(_TicketFields):
    """One robust scratch ticket."""

    kind: Literal["ticket"]
    ratio: Ratio


class R2sSpec(_TicketFields):
    """Random switch between tickets of one random network (paper, Section 6.2)."""

    kind: Literal["r2s"]
    ratios: Annotated[tuple[Ratio, ...], Field(min_length=2, strict=False)]
    probabilities: Annotated[tuple[NonNegative, ...], Field(strict=False)] | None = Field(
        None, description="of the members at inference, same order as ratios; default: uniform"
    )

    @model_validator(mode="after")
    def _distribution(self) -> R2sSpec:
        if len(set(self.ratios)) != len(self.ratios):
            raise ValueError("the candidate ratios must differ")
        if self.probabilities is not None:
            if len(self.probabilities) != len(self.ratios):
                raise ValueError(f"{len(self.probabilities)} probabilities for {len(self.ratios)} ratios")
            if abs(sum(self.probabilities) - 1.0) > 1e-9:
                raise ValueError(f"the probabilities sum to {sum(self.probabilities):g}, not 1")
        return self


DefenseSpec = Annotated[DenseSpec | TicketDefenseSpec | R2sSpec | ForeignSpec, Field(discriminator="kind")]
