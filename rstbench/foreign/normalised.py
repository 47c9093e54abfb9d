"""Networks that expect normalised images, behind a layer that takes them in [0, 1]."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from rstbench.errors import ModelError
from rstbench.foreign.task import Task
from rstbench.networks.layers import Normalise
from rstbench.spec.foreign import ForeignSpec


def normalisation(
    spec: ForeignSpec, task: Task, published: tuple[Sequence[float], Sequence[float]] | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std per channel that the network expects; None: it takes images in [0, 1] as they are.

    The spec's own values go before those of published weights, these before the data set's. Raises `ModelError` if
    there is not one value for each channel of the images.
    """
    if not spec.normalise:
        return None
    if spec.mean is not None and spec.std is not None:
        mean, std = spec.mean, spec.std
    else:
        mean, std = (tuple(published[0]), tuple(published[1])) if published else (task.mean, task.std)
    if len(mean) != task.channels:
        raise ModelError(f"model {spec.name}: normalises {len(mean)} channels, the images have {task.channels}")
    return mean, std


def behind_normalisation(network: nn.Module, values: tuple[tuple[float, ...], tuple[float, ...]] | None) -> nn.Module:
    """The network for images in [0, 1]: (x - mean) / std first, or as it is where `values` is None."""
    if values is None:
        return network
    return nn.Sequential(OrderedDict(normalise=Normalise(*values), network=network))
