"""From the spec of a model from elsewhere to a module that attacks can be run on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rstbench.errors import ModelError
from rstbench.foreign import ours, plugin_network, robustbench_zoo, timm_zoo, torchvision_zoo
from rstbench.foreign.answer import answer
from rstbench.foreign.files import WeightFile, weight_file
from rstbench.foreign.identity import identify
from rstbench.foreign.task import Task
from rstbench.spec.foreign import ForeignSpec


@dataclass(frozen=True)
class Loaded:
    """A module in evaluation mode, float32 on the CPU, whose parameters need no gradient; and facts worth keeping.

    The module takes float images (N, C, H, W) in [0, 1] and returns logits (N, classes).
    """

    module: nn.Module
    notes: tuple[str, ...]


def load(
    spec: ForeignSpec,
    *,
    classes: int,
    channels: int,
    image_size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    data_dir: Path | None,
    planned: Mapping[str, Any] | None = None,
) -> Loaded:
    """The model of `spec` for images (channels, image_size, image_size) of `classes` classes.

    mean, std: the data set's, per channel. planned: what `identify` said when the work was planned; a file, package or
    plug-in that is another one by now is refused. Nothing is drawn from the global random numbers; a plug-in that
    draws weights does so from seed 0. The model is asked once, with two images, before it is handed out.
    Raises `ModelError` (`TicketError`, `SpecError`) with one message for what cannot be had, does not fit, or does not
    answer with logits for `classes` classes.
    """
    task = Task(classes, channels, image_size, tuple(mean), tuple(std))
    _check_planned(spec, planned, data_dir)
    file = weight_file(spec.file, data_dir) if spec.file is not None else None
    if file is not None and planned is not None and file.sha256 != planned.get("file_sha256"):
        raise ModelError(_changed(file.where))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, notes = _network(spec, task, file, data_dir)
        module = module.float().eval().requires_grad_(False)
        where = f"model {spec.name} ({spec.source})"
        ramp = torch.linspace(0, 1, 2 * channels * image_size * image_size)
        found = answer(module, ramp.reshape(2, channels, image_size, image_size), where)
    if found.shape[1] != classes:
        raise ModelError(f"{where}: answers with {found.shape[1]} classes, the data set has {classes}")
    return Loaded(module, notes)


def _check_planned(spec: ForeignSpec, planned: Mapping[str, Any] | None, data_dir: Path | None) -> None:
    if planned is not None:
        now = identify(spec, data_dir)
        changed = [name for name in sorted(now.keys() | planned.keys()) if now.get(name) != planned.get(name)]
        if changed:
            raise ModelError(_changed(f"model {spec.name} ({spec.source})") + f" ({', '.join(changed)} changed)")


def _changed(what: str) -> str:
    return f"{what}: no longer what was planned with; run again, and what depends on it is computed anew"


def _network(
    spec: ForeignSpec, task: Task, file: WeightFile | None, data_dir: Path | None
) -> tuple[nn.Module, tuple[str, ...]]:
    if spec.source == "robustbench":
        return robustbench_zoo.network(spec, task, data_dir)
    if spec.source == "torchvision":
        return torchvision_zoo.network(spec, task, file)
    if spec.source == "timm":
        return timm_zoo.network(spec, task, file)
    if spec.source == "plugin":
        return plugin_network.network(spec, task, file)
    if file is None:  # the spec's own check asks for it
        raise ModelError("source rstbench needs `file`")
    return ours.network(spec, task, file)
