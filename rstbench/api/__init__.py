"""Evaluate a module that is already in memory: `rstbench.evaluate`. No suite, no store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from rstbench.api.inputs import POINTWISE, Attack, checked, chosen_attacks
from rstbench.api.rows import COLUMNS, Evaluation
from rstbench.spec.battery import battery

__all__ = ["COLUMNS", "POINTWISE", "Evaluation", "evaluate", "evaluation"]


def evaluate(
    model: nn.Module | Sequence[nn.Module],
    images: Tensor | np.ndarray[Any, Any],
    labels: Tensor | np.ndarray[Any, Any],
    attacks: Sequence[Attack] | None = None,
    *,
    norm: str = "linf",
    epsilon: str | float = "8/255",
    probabilities: Sequence[float] | None = None,
    batch: int = 256,
    seed: int = 0,
    progress: Callable[[str, float, float], None] | None = None,
) -> Any:
    """Attack a model with a battery and judge it; a `pandas.DataFrame`, one row for each attack.

    model: a module from images to logits (N, classes), normalisation inside; or several, for a defense that draws one
        of them for every inference, with `probabilities` (default: uniform). On whatever device it is.
    images: float32 (N, C, H, W) in [0, 1], or uint8 of the same shape; labels: integers (N,).
    attacks: names such as "fgsm", "pgd20", "apgd_ce", "autoattack" (`rstbench.spec.battery.NAMES`), specs of
        `rstbench.spec.attacks`, or their fields as a suite would write them. Default: `rstbench.spec.battery.battery`,
        a choice for the norm, and for one network or several. Images are always judged without attack, too (row
        "none").
    norm, epsilon: "linf" with text such as "8/255", or "l2" with a number; of the attacks that are given by name.
    batch: numerical batch. seed: of all random numbers. progress: called with an attack's name, done, total.

    Columns: accuracy with its 95 % interval in percent (Wilson for one network; bootstrap over images for several,
    whose score is the exact expectation over members); n images; linf (in 1/255) and l2, mean distances; l2_median, of
    the images that were fooled; queries, the median over these, of black-box attacks; forward and gradient, passes
    through one network for each image; seconds; flags, the names of `rstbench.spec.flags.RELIABILITY` that apply. The
    last row is the pointwise worst case over all attacks within (norm, epsilon), where there are several; it carries
    the flags of all that it chooses from.

    The model is put into evaluation mode (flag `training_mode` if it was not) and left there. Raises `SpecError` for
    unknown attacks and for inputs of another shape, type or range, `ModelError` for a model that does not take such
    images, knows too few classes or is spread over devices, `RunError` for one whose answers are not numbers.
    """
    return evaluation(model, images, labels, attacks, norm, epsilon, probabilities, batch, seed, progress).frame()


def evaluation(
    model: nn.Module | Sequence[nn.Module],
    images: Tensor | np.ndarray[Any, Any],
    labels: Tensor | np.ndarray[Any, Any],
    attacks: Sequence[Attack] | None,
    norm: str,
    epsilon: str | float,
    probabilities: Sequence[float] | None = None,
    batch: int = 256,
    seed: int = 0,
    progress: Callable[[str, float, float], None] | None = None,
) -> Evaluation:
    """What `evaluate` does and raises, with the result of every image (`Evaluation.scores`) behind its frame."""
    members = list(model) if isinstance(model, Sequence) else [model]
    clean, truth = checked(images, labels)
    names = attacks if attacks is not None else battery(norm, len(members) > 1)
    chosen = chosen_attacks(names, norm, epsilon, batch, min(clean.shape[2:]))
    run = Evaluation(members, clean, truth, probabilities, seed, batch, progress)
    for name, spec in chosen.items():
        run.attack(name, spec)
    run.worst_case(norm, epsilon)
    return run
