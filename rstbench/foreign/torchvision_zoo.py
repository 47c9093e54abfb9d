"""Torchvision's classification networks, with its published weights or a state dict of one's own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn

from rstbench.errors import ModelError
from rstbench.foreign.files import WeightFile, read
from rstbench.foreign.normalised import behind_normalisation, normalisation
from rstbench.foreign.task import Task
from rstbench.foreign.weights import check_finite, fill, read_state, weights_only
from rstbench.foreign.wording import first_line, near
from rstbench.spec.foreign import ForeignSpec


def network(spec: ForeignSpec, task: Task, file: WeightFile | None) -> tuple[nn.Module, tuple[str, ...]]:
    """The network, and notes.

    With a file the network is what torchvision builds without weights (GoogLeNet and Inception then do not shift their
    input by themselves). Of the transforms of published weights only the normalisation is applied: images come at the
    data set's size. Raises `ModelError` for unknown names, weights that are for other classes, damaged, or not to be
    had, and images that are not RGB.
    """
    from torchvision import models

    names = models.list_models(module=models)
    if spec.name not in names:
        raise ModelError(f"torchvision has no classification network {spec.name!r}{near(spec.name, names)}")
    if task.channels != 3:
        raise ModelError(f"torchvision's {spec.name} takes images of 3 channels; these have {task.channels}")
    if file is not None:
        module = models.get_model(spec.name, weights=None, num_classes=task.classes)
        fill(module, read_state(file.data, file.suffix, file.where), file.where, task.classes)
        return behind_normalisation(module, normalisation(spec, task)), ()
    published = models.get_model_weights(spec.name).__members__
    if spec.weights not in published:
        raise ModelError(
            f"torchvision has no weights {spec.weights!r} for {spec.name}; it has {', '.join(published) or 'none'}"
            + near(str(spec.weights), list(published))
        )
    weights = published[spec.weights]
    classes = len(weights.meta["categories"])
    if classes != task.classes:
        raise ModelError(
            f"torchvision's weights {spec.weights} of {spec.name} are for {classes} classes, the data set has "
            f"{task.classes}; weights of your own are named by `file`"
        )
    module, digest = _published(spec, weights)
    transforms = weights.transforms()
    module = behind_normalisation(module, normalisation(spec, task, (transforms.mean, transforms.std)))
    return module, (f"weights SHA-256 {digest}", *_size_note(transforms.crop_size[0], task.image_size))


def _size_note(published: int, here: int) -> tuple[str, ...]:
    return () if published == here else (f"the weights were published for {published} pixels, images here have {here}",)


def _published(spec: ForeignSpec, weights: Any) -> tuple[nn.Module, str]:
    from torchvision import models

    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    if path.is_file():  # torch checks what it downloads, but not what lies there already
        _check_published(path)
    try:
        with weights_only():
            module = models.get_model(spec.name, weights=weights, progress=False)
    except Exception as error:  # the network, the disk, or what was in the file
        if path.is_file():
            raise ModelError(f"{path}: does not load as {spec.name} ({first_line(error)})") from error
        raise ModelError(
            f"the weights {spec.weights} of torchvision's {spec.name} are not here and could not be downloaded "
            f"({first_line(error)}). Fetch {weights.url} where there is a network and put it at {path}, or name a "
            "state dict in the data directory by `file`"
        ) from error
    check_finite(module, str(path))
    return module, hashlib.sha256(read(path)).hexdigest()


def _check_published(path: Path) -> None:
    """Torchvision's files carry the beginning of their SHA-256 in their names."""
    prefix = torch.hub.HASH_REGEX.search(path.name)
    if prefix is not None and not hashlib.sha256(read(path)).hexdigest().startswith(prefix.group(1)):
        raise ModelError(
            f"{path}: not the file that torchvision publishes under this name (its SHA-256 does not begin with "
            f"{prefix.group(1)}); remove it, or name your own weights by `file`"
        )
