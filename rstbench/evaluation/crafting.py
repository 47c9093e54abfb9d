"""Networks made ready for crafting: folded, laid out and cast once, and kept for as long as the original lives."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import nn

from rstbench.networks.folding import duplicate, folded, is_ours
from rstbench.networks.precision import lowered
from rstbench.spec.attack_fields import AttackEngine

_Choice = tuple[bool, bool, str]
_KEPT: WeakKeyDictionary[nn.Module, tuple[tuple[object, ...], dict[_Choice, nn.Module]]] = WeakKeyDictionary()


def crafting_network(network: nn.Module, engine: AttackEngine, low: bool = False) -> nn.Module:
    """The network as the engine has it, not compiled: in evaluation mode, on the device it is on.

    Batch norm folded where the engine says so, weights in its memory format, and with `low` all but the first layer and
    the classifier in bfloat16. A network that is not ours (`networks.folding.is_ours`) comes back itself. What is made
    is kept with the network, and made anew once a parameter or buffer of the network holds other values; what was made
    before may then be of either, since unchanged weights are shared.
    """
    if not is_ours(network):
        return network
    values = _fingerprint(network)
    kept = _KEPT.get(network)
    if kept is None or kept[0] != values:
        kept = _KEPT[network] = (values, {})
    choice = (engine.folding, low, str(engine.with_layout(True).layout))
    if choice not in kept[1]:
        kept[1][choice] = _made(network, *choice)
    return kept[1][choice]


def _made(network: nn.Module, folding: bool, low: bool, layout: str) -> nn.Module:
    made = folded(network) if folding else duplicate(network)
    if low:
        made = lowered(made)
    if layout == "channels_last":
        for layer in made.modules():
            if isinstance(layer, nn.Conv2d):
                # A new parameter: the original may share the values of this one.
                weight = layer.weight.contiguous(memory_format=torch.channels_last)
                layer.weight = nn.Parameter(weight, requires_grad=False)
    return made


def _fingerprint(network: nn.Module) -> tuple[object, ...]:
    """Changes where values change, also if they were written past autograd (`tensor.data`), which keeps no count."""
    tensors = [each.detach() for each in (*network.parameters(), *network.buffers())]
    where = [(each.device, each.data_ptr(), 0 if each.is_inference() else each._version) for each in tensors]
    tensors = [each if each.device.type in ("cpu", "cuda") else each.cpu() for each in tensors]
    # The hash is an exclusive or, which many changes at once may leave alone; the sum then hardly does.
    hashes = torch.stack([torch.hash_tensor(each).view(torch.int64) for each in tensors])
    sums = torch.stack([each.sum().to(torch.float32) for each in tensors])
    return tuple(where), tuple(hashes.tolist()), tuple(sums.tolist())
