"""What a suite can ask of an optimisation run: of the scores of a mask (a search), or of weights.

Every field changes bits of a result and so is in the keys of the store. Defaults are the paper's setting (its text
first, its authors' code where the text is silent); a comment names the source.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from rstbench.spec.base import Count, LinfDistance, NonNegative, Positive, Ratio, Spec, ratio_text

GATHERED = 2048
"""Training images from which batch-norm statistics of each ratio of a family are gathered at a validation."""


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
    """A random crop and a horizontal flip, drawn per image and step.

    padded_crop: after zero padding, as usual for CIFAR. resized_crop: of any size and shape, brought to the image size,
    as usual for ImageNet (Szegedy et al. 2015; torchvision's RandomResizedCrop); images on disk are cut from the whole
    photograph.
    """

    padding: Annotated[int, Field(ge=0, le=64)] = Field(4, description="pixels; padded_crop only")
    flip: bool = True
    kind: Literal["padded_crop", "resized_crop"] = "padded_crop"
    min_scale: Annotated[float, Field(gt=0, le=1)] = Field(
        0.08, description="resized_crop only: least share of the image's area; aspect ratios are 3/4 to 4/3"
    )

    later: ClassVar[frozenset[str]] = frozenset({"kind", "min_scale"})

    @property
    def changes_nothing(self) -> bool:
        """Whether an image stays as evaluation sees it, so that nothing need be drawn."""
        return self.kind == "padded_crop" and self.padding == 0 and not self.flip


class Engine(Spec):
    """Numerics of the work; each field changes bits, so each is part of the key."""

    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16: autocast; verdicts are always fp32")
    layout: Literal["contiguous", "channels_last"] = "contiguous"
    threads: Count = Field(1, description="CPU threads of the worker that runs the node")
    compiler: Literal["none", "inductor", "cuda_graphs"] = Field(
        "none",
        description="inductor: torch.compile, which reorders sums; cuda_graphs: a training step's passes are recorded "
        "once and replayed, on a GPU only",
    )

    later: ClassVar[frozenset[str]] = frozenset({"compiler"})


class Validation(Spec):
    """How the best epoch is chosen: robust accuracy under PGD on the validation part, never on test images."""

    every: Count = Field(1, description="epochs between validations; the last epoch is always validated")
    steps: Count = Field(7, description="PGD steps, uniform start, step size 2.5 epsilon / steps")
    epsilon: LinfDistance | None = Field(None, description="default: that of the inner attack; 0: natural accuracy")
    images: Count | None = Field(
        None, description="how many validation images: a seeded choice, in proportion to classes; default: all"
    )
    stop: Literal["never", "source_fooled"] = Field(
        "never",
        description="source_fooled: an image rests, and counts as wrong, once it is misclassified, even if more steps "
        "would have brought it back",
    )
    folding: bool = Field(
        False, description="batch norm folded into convolutions, as for crafting; the same accuracy up to rounding"
    )

    later: ClassVar[frozenset[str]] = frozenset({"images", "stop", "folding"})


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
    objective: Literal["ce", "trades"] = Field(
        "ce",
        description="ce: cross-entropy on adversarial images (the paper); trades: cross-entropy on clean images plus "
        "trades_beta times the KL divergence to the predictions on adversarial ones, which maximise that divergence",
    )
    trades_beta: Positive = Field(6.0, description="trades only")

    later: ClassVar[frozenset[str]] = frozenset({"objective", "trades_beta"})

    @model_validator(mode="after")
    def _divergence_can_grow(self) -> TrainingSpec:
        # Where the images start at the clean ones, the divergence is at its minimum and its gradient zero.
        if self.objective == "trades" and self.inner.kind in ("none", "fgsm"):
            raise ValueError(
                f"objective trades needs an inner attack that starts away from the clean images (fgsm_rs or pgd); "
                f"{self.inner.kind} starts at them, where the divergence has no gradient"
            )
        return self


class SearchSpec(TrainingSpec):
    """Edge-popup with an adversarial inner loop (paper, Eq. 1)."""

    rank: Literal["abs_score", "score"] = Field(
        "abs_score", description="what is ranked: |s| as the authors' code does, or s as the text says"
    )
    layer_power: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0,
        description="p of the power law r_l = c n_l^(p - 1), capped at 1, c so that the whole keeps its ratio: 1 is "
        "the paper's uniform ratio, 0 equal counts (Robust Binary Models, NeurIPS 2022, uses about 0.1)",
    )
    score_scale: Positive = Field(1.0, description="factor of the scores at the start; the authors' code has 1")
    last_bn_affine: bool = Field(
        False,
        description="train scale and shift of the network's last batch norm with the scores (Robust Binary Models adds "
        "a batch norm behind the classifier)",
    )
    family: Annotated[tuple[Ratio, ...], Field(strict=False)] = Field(
        (),
        description="one search for tickets of all these ratios, nested in one another: each step draws one of them. "
        "Batch-norm statistics are gathered anew for each ratio at every validation. Empty: one search a ratio",
    )

    later: ClassVar[frozenset[str]] = TrainingSpec.later | {"layer_power", "score_scale", "last_bn_affine", "family"}

    @model_validator(mode="after")
    def _distinct(self) -> SearchSpec:
        if len({ratio_text(ratio) for ratio in self.family}) != len(self.family):
            raise ValueError("the ratios of a family must differ in six decimals")
        if len(self.family) == 1:
            raise ValueError("a family has at least two ratios; for one, leave `family` empty")
        return self
