"""Networks: one file per family. `build` is the only way in; parameters come from `rstbench.networks.init`.

A new family needs a file with a constructor taking a `ModelSpec`, a name in `rstbench.spec.models.FAMILIES` and a
line in `_construct`. Torch is imported when a network is built, so that specs stay cheap to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rstbench.networks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ModelSpec", "build"]


def build(spec: ModelSpec) -> nn.Module:
    """Build the network of `spec` on the CPU, in training mode, without drawing a random number.

    The module takes float32 images (N, channels, image_size, image_size) in [0, 1], normalises them inside, and
    returns logits (N, classes). Weights are zero until `rstbench.networks.init.initialise` (or a checkpoint) fills
    them; batch norm starts as it does in torch. Raises `SpecError` where the family has no such width.
    """
    import torch
    from torch import nn

    from rstbench.networks.layers import Normalise

    # Torch's own initialisation takes seconds for wide networks and draws from the global generator: on the meta
    # device it does neither. Everything it would have written is written below instead.
    with torch.device("meta"):
        module = _construct(spec)
    module.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.reset_parameters()
        elif isinstance(layer, Normalise):
            layer.reset()
    return module


def _construct(spec: ModelSpec) -> nn.Module:
    family = spec.family
    if family in ("preact_resnet18", "preact_resnet10"):
        from rstbench.networks.preact import PreActResNet

        return PreActResNet(spec, blocks=2 if family == "preact_resnet18" else 1)
    if family == "cifar_resnet18":
        from rstbench.networks.cifar_resnet import CifarResNet

        return CifarResNet(spec, blocks=2)
    if family.startswith("wide_resnet"):
        from rstbench.networks.wide_resnet import WideResNet

        return WideResNet(spec, depth=int(family.removeprefix("wide_resnet")))
    from rstbench.networks.torchvision_resnet import ImageNetResNet

    return ImageNetResNet(spec)
