"""What an optimisation run costs in forward passes, from its spec alone. A guide: never part of a key."""

from __future__ import annotations

from rstbench.spec.training import GATHERED, SearchSpec, TrainingSpec


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
    step, family = passes_per_image(training), 1
    gathered = 0.0
    if isinstance(training, SearchSpec) and training.family:
        family = len(training.family)
        gathered = family * min(GATHERED, fitted) * (step - (4 if training.objective == "trades" else 2))
    validation = family * validated * (2 * training.validation.steps + 1) + gathered
    return training.epochs * (fitted * step + validation / training.validation.every)
