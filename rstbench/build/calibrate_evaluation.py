"""Seconds of the units of work of attacks and verdicts: see `build.calibrate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter
from torch import Tensor, nn

from rstbench.attacks.threat import Threat
from rstbench.build.bench import Bench
from rstbench.build.images import attacked_images
from rstbench.build.timing import Stopwatch
from rstbench.data.sources import DataSet
from rstbench.evaluation.craft import Crafted, Target, craft
from rstbench.evaluation.files import IMAGES, pack_images, unpack_images
from rstbench.evaluation.judge import check_images, predict
from rstbench.spec.attacks import CraftedSpec
from rstbench.spec.base import canonical_json
from rstbench.spec.budgets import written_out
from rstbench.store import Store

_CRAFTED: TypeAdapter[CraftedSpec] = TypeAdapter(Annotated[CraftedSpec, Field(discriminator="kind")])
_FEW: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 2},
    "apgd": {"steps": 2},
    "cw_l2": {"iterations": 2},
    "cw_inf": {"steps": 3},
    "square": {"queries": 6},
    "bandits": {"queries": 7},
    "arc": {"steps": 1},
    "hinge": {"steps": 1, "restarts": 1},
}
"""As much of an attack as is measured."""
_TINY = {"linf": "1/100000", "l2": 1e-4}
"""Budgets that fool nobody, so that attacks which leave out what fell go on with every image."""
_IMAGES = 512


def attack_seconds(
    fields: Mapping[str, Any], networks: list[nn.Module], data: DataSet, bench: Bench, watch: Stopwatch
) -> float:
    """Seconds of one pass of an image through one network under attack; a gradient counts as two.

    fields: of an `attack` unit. networks: as many as it has members.
    """
    found: list[Crafted] = []
    rows, clean, _ = attacked_images({}, data, fields["batch"], bench.device)
    images = clean[:]
    labels, _ = predict(networks[0], images, fields["batch"], _silent)
    spec = _short(fields, images)
    target = Target(networks, data.classes, bench.device)

    def run(many: int) -> None:
        found[:] = [craft(target, images[:many], labels[:many], rows[:many].tolist(), spec, 0, _silent)]

    many = watch.affordable(len(images), run)
    run(many)
    passes, seconds = 0, 0.0
    while not passes or seconds < watch.least_s:
        run(many)
        passes += (found[0].forward or 0) + 2 * (found[0].gradient or 0)
        seconds += found[0].seconds or 0.0
    return seconds / passes


def _short(fields: Mapping[str, Any], images: Tensor) -> CraftedSpec:
    attack = {**fields["attack"], "batch": fields["batch"], "engine": fields["engine"]}
    attack |= _FEW.get(attack["kind"], {})
    if attack["kind"] != "cw_l2":
        attack["epsilon"] = _TINY[attack["norm"]]
    return written_out(_CRAFTED.validate_json(canonical_json(attack)), False, images.shape[-1])


def predict_seconds(network: nn.Module, data: DataSet, batch: int, bench: Bench, watch: Stopwatch) -> float:
    """Seconds of judging one image."""
    images = attacked_images({}, data, batch, bench.device)[1][:]
    many = watch.affordable(len(images), lambda few: predict(network, images[:few], few, _silent))
    return watch.seconds(lambda: predict(network, images[:many], many, _silent)) / many


def clean_seconds(data: DataSet, bench: Bench, watch: Stopwatch) -> float:
    """Seconds of taking one image from a data set."""
    many = min(_IMAGES, len(data.test_labels))
    return watch.seconds(lambda: attacked_images({}, data, many, bench.device)[1][:]) / many


def pack_seconds(images: Tensor, watch: Stopwatch, scratch: Store) -> float:
    """Seconds of checking, packing and writing one adversarial image; images: (N, C, H, W) clean ones."""
    found, threat = _noisy(images), Threat("linf", 8 / 255)

    def pack() -> None:
        check_images(found, images, threat)
        scratch.write_partial("0" * 64, IMAGES, pack_images(found))

    return watch.seconds(pack) / len(images)


def unpack_seconds(images: Tensor, watch: Stopwatch) -> float:
    """Seconds of unpacking one adversarial image; images: (N, C, H, W) clean ones."""
    packed = pack_images(_noisy(images))
    return watch.seconds(lambda: unpack_images(packed, "calibration")) / len(images)


def _noisy(images: Tensor) -> Tensor:
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + (2 * noise - 1) * 8 / 255).clamp(0, 1)


def _silent(done: float, total: float, note: str) -> None:
    pass
