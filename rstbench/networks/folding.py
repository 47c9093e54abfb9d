"""Batch norm folded into convolutions: the same function of the images, without a single normalisation left in it.

In evaluation mode batch norm is x -> a x + b with a = gamma / sqrt(variance + eps), b = beta - a mean for each channel.
Behind a convolution both are its own: weights times a, bias b (Jacob et al. 2018, Section 3.2, without quantisation).
Before a ReLU that convolutions read, as in pre-activation networks (He et al. 2016), there may be none in front to take
them, but for a > 0

    relu(a x + b) = a relu(x + b / a),

so a moves on into the input channels of the convolutions that read the activation, which pad with zeros either way, and
b / a rides on the residual stream: the convolution that writes the stream adds it as a bias. Where the stream goes
through a block unchanged, it brings the shift of the norm before with it, and the bias is the difference. The last norm
moves into the classifier through the average pool, which is linear. The identity is ours to derive; we know of no
reference implementation of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from rstbench.networks.cifar_resnet import BasicBlock as CifarBlock
from rstbench.networks.cifar_resnet import CifarResNet
from rstbench.networks.layers import Classifier, Normalise
from rstbench.networks.preact import PreActBlock, PreActResNet, PreActStages
from rstbench.networks.wide_resnet import WideResNet

LARGEST_SHIFT = 16.0
"""Standard deviations by which a norm of the residual stream may shift it, beyond its own mean, and still be folded: a
larger shift would be carried by every sum of the stream and cost it digits."""

_CIFAR = (PreActResNet, WideResNet, CifarResNet)
_LAYERS = (
    nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.Identity, nn.Sequential, nn.ReLU, nn.MaxPool2d, nn.AdaptiveAvgPool2d,
    Classifier, Normalise, CifarBlock, PreActBlock,
)  # fmt: skip
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_ours(network: nn.Module) -> bool:
    """Whether the network is one that `rstbench.networks.build` made, and still computes what it did then.

    Not so with parts of other types, hooks, parametrisations, or a `forward` that somebody has replaced: what such a
    network computes cannot be read off its layers.
    """
    whole, *parts = network.modules()
    imagenet = _is_imagenet(whole)
    known = all(type(part) in _LAYERS or (imagenet and _is_torchvision_block(part)) for part in parts)
    return (type(whole) in _CIFAR or imagenet) and known and all(_untouched(part) for part in (whole, *parts))


def duplicate(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose parameters need no gradient; their values, and buffers, are the original's own.

    What is replaced in the copy does not change the original; what is written into a tensor changes both.
    """
    shared: dict[int, object] = {
        id(each): nn.Parameter(each.detach(), requires_grad=False) for each in network.parameters()
    }
    shared |= {id(each): each for each in network.buffers()}
    return copy.deepcopy(network, shared).eval()


def folded(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode with batch norm folded away, on the same device; the original is left as it is.

    network: of ours (`is_ours`), in either mode. Maps images (N, C, H, W) in [0, 1] to logits (N, classes) as the
    original does in evaluation mode, and so do its gradients to the images, up to rounding: weights are scaled in
    float64 and rounded once. Parameters need no gradient; those that nothing was folded into, and the statistics of
    norms that stay, share memory with the original. Names of layers stay; a norm that is gone is an `nn.Identity`.

    A norm stays as it is where it cannot go: without running statistics, or, on the residual stream of a
    pre-activation network, with a scale that is not above 0 or a shift beyond `LARGEST_SHIFT` in some channel. A
    network that is not ours comes back itself, not copied, in the mode it is in.
    """
    if not is_ours(network):
        return network
    copied = duplicate(network)
    if isinstance(copied, PreActStages):
        _fold_pre_activation(copied)
    else:
        for convolution, norm in list(_pairs(copied)):
            layer, constants = copied.get_submodule(convolution), _constants(copied.get_submodule(norm))
            if isinstance(layer, nn.Conv2d) and constants is not None:
                _change(layer, outputs=constants[0], bias=constants[1])
                copied.set_submodule(norm, nn.Identity())
    return copied


def _is_imagenet(network: nn.Module) -> bool:
    # By name: importing torchvision takes a second that networks for small images need not pay.
    kind = type(network)
    return (kind.__module__, kind.__name__) == ("rstbench.networks.torchvision_resnet", "ImageNetResNet")


def _is_torchvision_block(part: nn.Module) -> bool:
    kind = type(part)
    return kind.__module__ == "torchvision.models.resnet" and kind.__name__ in ("BasicBlock", "Bottleneck")


def _untouched(part: nn.Module) -> bool:
    return "forward" not in vars(part) and not any(getattr(part, hooks) for hooks in _HOOKS)


def _pairs(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of each convolution of a post-activation network and of the norm right behind it."""
    yield ("stem", "bn") if isinstance(network, CifarResNet) else ("conv1", "bn1")
    for path, block in network.named_modules():
        if isinstance(block, CifarBlock) or _is_torchvision_block(block):
            for number in (1, 2, 3):
                if hasattr(block, f"conv{number}"):
                    yield f"{path}.conv{number}", f"{path}.bn{number}"
            for shortcut in ("shortcut", "downsample"):
                if isinstance(getattr(block, shortcut, None), nn.Sequential):
                    yield f"{path}.{shortcut}.0", f"{path}.{shortcut}.1"


def _fold_pre_activation(network: PreActStages) -> None:
    blocks = [block for block in network.stages.modules() if isinstance(block, PreActBlock)]
    norms = [*(block.bn1 for block in blocks), network.bn]
    moved = [_moved(norm) for norm in norms]
    scales = [None if each is None else each[0] for each in moved]
    # A norm that stays must find the stream as it is: nothing rides on it there.
    shifts = [
        torch.zeros(norm.num_features, dtype=torch.float64) if each is None else each[1]
        for norm, each in zip(norms, moved, strict=True)
    ]
    _change(network.stem, bias=shifts[0])
    for number, block in enumerate(blocks):
        behind, scale = _constants(block.bn2), scales[number]
        outputs, bias = (None, None) if behind is None else behind
        _change(block.conv1, outputs, scale, bias)
        if behind is not None:
            block.register_module("bn2", nn.Identity())
        if scale is not None:
            block.register_module("bn1", nn.Identity())
        if block.shortcut is None:
            _change(block.conv2, bias=shifts[number + 1] - shifts[number])
        else:
            _change(block.conv2, bias=shifts[number + 1])
            _change(block.shortcut, inputs=scale)
    if scales[-1] is not None:
        _change(network.classifier, inputs=scales[-1])
        network.register_module("bn", nn.Identity())


def _constants(norm: nn.Module) -> tuple[Tensor, Tensor] | None:
    """a and b of a norm with running statistics, float64 (channels,) on the CPU; None without."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        return None
    scale = 1.0 / (_exact(norm.running_var) + norm.eps).sqrt()
    shift = -_exact(norm.running_mean)
    if norm.affine:
        scale = scale * _exact(norm.weight)
        return scale, shift * scale + _exact(norm.bias)
    return scale, shift * scale


def _moved(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor] | None:
    """a and b / a of a norm that a ReLU follows; None where they cannot move beyond it."""
    constants = _constants(norm)
    if constants is None or not bool((constants[0] > 0).all()):
        return None
    if norm.affine and bool((norm.bias.abs() > LARGEST_SHIFT * norm.weight).any()):
        return None
    return constants[0], constants[1] / constants[0]


def _exact(tensor: Tensor) -> Tensor:
    # On the CPU, since not every device has float64.
    return tensor.detach().cpu().double()


def _change(
    layer: nn.Conv2d, outputs: Tensor | None = None, inputs: Tensor | None = None, bias: Tensor | None = None
) -> None:
    """Give a convolution of one group new parameters: channels scaled, and something added to its bias.

    outputs: (O,), which also scales the bias that is there; inputs: (I,); bias: (O,). All float64; None: as it is.
    """
    weight = _exact(layer.weight)
    if outputs is not None:
        weight = weight * outputs.view(-1, 1, 1, 1)
    if inputs is not None:
        weight = weight * inputs.view(1, -1, 1, 1)
    if outputs is not None or inputs is not None:
        layer.weight = _parameter(weight, layer.weight)
    if bias is not None:
        if layer.bias is not None:
            bias = bias + _exact(layer.bias) * (1.0 if outputs is None else outputs)
        layer.bias = _parameter(bias, layer.weight)


def _parameter(values: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(values.to(like.device, like.dtype), requires_grad=False)
