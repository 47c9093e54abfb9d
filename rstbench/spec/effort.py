"""What an optimisation run costs in forward passes, from its spec alone. A guide: never part of a key."""

from __future__ import annotations

from rstbench.spec.training import GATHERED, SearchSpec, TrainingSpec

STANDING = 0.5
"""Share of the images that stand until the end of an attack that leaves out those that fell: for estimates, about what
robust networks keep on CIFAR-10 (30 to 60 %)."""


def passes_per_image(training: TrainingSpec) -> int:
    """Forward passes that one training image costs in one epoch; a backward pass counts as two, to the input as one.

    Cross-entropy: twice the inner steps, and three for the update. TRADES: one more for the predictions that the
    inner steps lead away from, and an update of clean and adversarial images.
    """
    inner_steps = {"none": 0, "pgd": training.inner.steps}.get(training.inner.kind, 1)
    return 2 * inner_steps + (7 if training.objective == "trades" else 3)


def training_passes(training: TrainingSpec, fitted: float, validated: float) -> float:
    """Forward passes of single images that a run takes on `fitted` training and `validated` validation images.

    A family validates every one of its ratios, after its batch-norm statistics were gathered.
    """
    return step_passes(training, fitted) + validation_passes(training, validated)


def step_passes(training: TrainingSpec, fitted: float) -> float:
    """Those of optimiser steps on `fitted` images an epoch, and of the batch-norm statistics of a family."""
    step = passes_per_image(training)
    gathered = 0.0
    if isinstance(training, SearchSpec) and training.family:
        gathered = len(training.family) * min(GATHERED, fitted) * (step - (4 if training.objective == "trades" else 2))
    return training.epochs * (fitted * step + gathered / training.validation.every)


def validation_passes(training: TrainingSpec, validated: float) -> float:
    """Those of attacks on `validated` images, or as many of them as the validation asks for.

    Where an image rests once it is misclassified, half of them stand until the end, it is assumed.
    """
    attack = training.validation
    family = len(training.family) if isinstance(training, SearchSpec) and training.family else 1
    standing = STANDING if attack.stop == "source_fooled" else 1.0
    one = family * min(validated, attack.images or validated) * (2 * attack.steps * standing + 1)
    return training.epochs * one / attack.every
