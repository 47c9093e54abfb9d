"""Members of one architecture asked in one pass."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from rstbench.errors import SpecError
from rstbench.networks.layers import Normalise


class Stacked(nn.Module):
    """K networks of one architecture as one: images (N, C, H, W), the same for all, to logits (K, N, classes).

    Images (K, N, C, H, W) are some for each. Parameters and buffers are copied into stacks, and every layer runs for
    all networks at once (`torch.vmap`, which turns convolutions into grouped ones): one launch of a kernel in place of
    K, with the memory of K batches. It pays where a pass is too small to fill the device. On one CPU core that is so
    for tiny networks only (PreActResNet-10 of 4 to 32 channels on 8 x 8 images, batch 16, K = 6: 2.2 times as fast as
    one by one); quarter-width PreActResNet-18 on images of CIFAR's size gains nothing at batch 4, and takes twice as
    long at batch 100. Nobody has measured it on a GPU yet. Answers are those of the members, up to the rounding of
    sums in another order.

    members: in evaluation mode, on one device, of our own making (`networks.folding.is_ours`, folded or not), since
    only their layers say all that they compute. Raises `SpecError` if they are not all of one architecture.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        first = _architecture(members[0])
        for number, member in enumerate(members):
            if _architecture(member) != first:
                raise SpecError(
                    f"`members: together` needs members of one architecture; member {number} is not that of member 0, "
                    f"with {_difference(first, _architecture(member))}; use `members: one_by_one`"
                )
        parameters, buffers = stack_module_state([member.eval() for member in members])
        self._parameters_of_all = {name: each.detach() for name, each in parameters.items()}
        self._buffers_of_all = buffers
        # In a list, so that its parameters, which have no values, are not this module's.
        self._skeleton = [copy.deepcopy(members[0]).to("meta")]

    def forward(self, images: Tensor) -> Tensor:
        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
            logits: Tensor = functional_call(self._skeleton[0], (parameters, buffers), (images,))
            return logits

        mapped = torch.vmap(one, in_dims=(0, 0, None if images.dim() == 4 else 0))
        answers: Tensor = mapped(self._parameters_of_all, self._buffers_of_all, images)
        return answers


def _architecture(network: nn.Module) -> list[str]:
    """A line for each layer: name, type, and all that it computes with but the values of its tensors."""
    lines = []
    for name, layer in network.named_modules():
        own = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
        tensors = ", ".join(f"{key} {tuple(each.shape)} {each.dtype}" for key, each in own)
        # What a normalisation says of itself are the values, and these are stacked like all others.
        what = "" if isinstance(layer, Normalise) else layer.extra_repr()
        lines.append(f"{name or 'the network'}: {type(layer).__name__}({what}) {tensors}")
    return lines


def _difference(one: Sequence[str], other: Sequence[str]) -> str:
    for here, there in zip_longest(one, other, fillvalue="nothing"):
        if here != there:
            return f"{there!r} in place of {here!r}"
    return "nothing"
