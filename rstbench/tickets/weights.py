"""Where the weights behind a mask come from: a seed, or a dense network that was trained and is stored once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from rstbench.errors import TicketError
from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.networks.spec import ModelSpec
from rstbench.spec.base import Seed, Spec
from rstbench.spec.models import INITS

LoadWeights = Callable[[str, str], Mapping[str, Tensor]]
"""(key, checkpoint) -> state dict of the dense network that the train node `key` left."""


class RandomWeights(Spec):
    """Drawn by `init` from `seed` (`networks.init`)."""

    kind: Literal["random"] = "random"
    init: Literal[INITS]  # type: ignore[valid-type]
    seed: Seed


class TrainedWeights(Spec):
    """Those of a dense network: a checkpoint of the train node `key`.

    classifier `kept`: as it was trained. `reinitialised`: parameters whose shape follows from the number of classes
    are drawn anew by `init`, which is the dense network's, from `seed` (paper, Section 6.3: transferred RTTs); also
    where both data sets have as many classes.
    """

    kind: Literal["trained"] = "trained"
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    checkpoint: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=80)]
    classifier: Literal["kept", "reinitialised"]
    init: Literal[INITS]  # type: ignore[valid-type]
    seed: Seed


TicketWeights = Annotated[RandomWeights | TrainedWeights, Field(discriminator="kind")]


def fill(
    module: nn.Module, model: ModelSpec, weights: RandomWeights | TrainedWeights, load: LoadWeights | None
) -> None:
    """Write the weights into the parameters of `module`, a network of `model`; of trained ones the buffers too.

    Raises `TicketError` if they are trained ones and there is no `load`, or if they do not fit.
    """
    if isinstance(weights, RandomWeights):
        initialise(module, weights.init, weights.seed)
        return
    if load is None:
        raise TicketError(
            f"the ticket's weights are trained ones and not in its file: they are checkpoint {weights.checkpoint} of "
            f"value {weights.key}; name the store that holds that value"
        )
    drawn = _added(model) | (class_parameters(model) if weights.classifier == "reinitialised" else frozenset())
    if drawn:
        initialise(module, weights.init, weights.seed)
    trained = {name: value for name, value in load(weights.key, weights.checkpoint).items() if name not in drawn}
    expected = {name: value for name, value in module.state_dict().items() if name not in drawn}
    odd = [
        name
        for name in {**expected, **trained}
        if name not in expected or name not in trained or kind(expected[name]) != kind(trained[name])
    ]
    if odd:
        raise TicketError(
            f"the trained weights of value {weights.key[:12]} are not those of a {model.family} at width "
            f"{model.width:g} for {model.classes} classes ({odd[0]} differs)"
        )
    module.load_state_dict(trained, strict=False)


def _added(model: ModelSpec) -> frozenset[str]:
    """Names of what only a search's `last_bn_affine` gives to a network, so that no trained one need have it."""
    if not model.last_bn_affine:
        return frozenset()
    plain = dict(build(model.model_copy(update={"last_bn_affine": False})).named_parameters())
    return frozenset(name for name, _ in build(model).named_parameters() if name not in plain)


def class_parameters(model: ModelSpec) -> frozenset[str]:
    """Names of the parameters whose shape follows from the number of classes: those of the classifier."""
    other = dict(build(model.model_copy(update={"classes": model.classes + 1})).named_parameters())
    return frozenset(name for name, value in build(model).named_parameters() if value.shape != other[name].shape)


def kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    """Shape and type: what must agree before one tensor takes another's place."""
    return tensor.shape, tensor.dtype
