"""What may be handed to `rstbench.evaluate`: checked, and put into one form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rstbench.errors import SpecError
from rstbench.spec.attack_fields import Bounded
from rstbench.spec.attacks import CleanSpec, CraftedSpec
from rstbench.spec.battery import attack_spec, named_attack
from rstbench.spec.budgets import written_out
from rstbench.spec.derived import DerivedSpec

POINTWISE = "pointwise"
RESERVED = ("none", POINTWISE)

Attack = str | CleanSpec | CraftedSpec | dict[str, Any]


def checked(images: Tensor | np.ndarray[Any, Any], labels: Tensor | np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
    """Float32 images (N, C, H, W) in [0, 1] and int64 labels (N,), on the CPU. Raises `SpecError` for anything else."""
    pixels, truth = torch.as_tensor(images).cpu(), torch.as_tensor(labels).cpu()
    if pixels.dim() != 4 or len(pixels) == 0:
        raise SpecError(f"images are (N, C, H, W) with at least one image, not {tuple(pixels.shape)}")
    if truth.shape != (len(pixels),) or truth.is_floating_point() or truth.dtype == torch.bool:
        raise SpecError(
            f"labels are integers, one for each of {len(pixels)} images, not {truth.dtype} {tuple(truth.shape)}"
        )
    if int(truth.min()) < 0:
        raise SpecError(f"labels are classes from 0 on, not {int(truth.min())}")
    if pixels.dtype == torch.uint8:
        pixels = pixels.float() / 255
    if pixels.dtype != torch.float32:
        raise SpecError(f"images are float32 in [0, 1] or uint8, not {pixels.dtype}")
    if not bool(((pixels >= 0) & (pixels <= 1)).all()):
        raise SpecError(
            f"images lie in [0, 1], these in [{float(pixels.amin()):g}, {float(pixels.amax()):g}]; "
            "normalisation belongs into the model"
        )
    return pixels, truth.long()


def chosen_attacks(
    attacks: Sequence[Attack], norm: str, epsilon: str | float, batch: int, image_size: int
) -> dict[str, CleanSpec | CraftedSpec]:
    """Attacks by the names of their rows, "none" first, every default written out.

    norm, epsilon: of those that are given by name; image_size: pixels a side. Raises `SpecError` for what is no attack
    that makes images.
    """
    if isinstance(attacks, str):
        raise SpecError(f"attacks is a list of names, e.g. [{attacks!r}]")
    chosen: dict[str, CleanSpec | CraftedSpec] = {"none": CleanSpec(batch=batch)}
    for attack in attacks:
        spec: CleanSpec | CraftedSpec | DerivedSpec
        if isinstance(attack, str):
            name, spec = attack, named_attack(attack, norm, epsilon, batch=batch)
        elif isinstance(attack, dict):
            spec = attack_spec({"batch": batch, **attack}, str(attack.get("kind", attack)))
            name = spec.report_as or spec.kind
        else:
            name, spec = attack.report_as or attack.kind, attack
        if isinstance(spec, DerivedSpec):
            raise SpecError(f"attack {name}: adversaries of kind {spec.kind} choose among attacks of a suite")
        if isinstance(spec, CleanSpec):
            continue
        if isinstance(spec, Bounded) and spec.smaller_epsilons:
            raise SpecError(
                f"attack {name}: `smaller_epsilons` keeps images that a suite has stored; ask for every epsilon alone"
            )
        if name in RESERVED:
            raise SpecError(f"an attack cannot be called {name!r}: every evaluation has a row of that name")
        spec = written_out(spec, False, image_size, ours=False)
        if name in chosen and chosen[name] != spec:
            name = f"{name}#{len(chosen)}"
        chosen[name] = spec
    return chosen
