"""Forward passes of a run, in the numerics that its engine asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from rstbench.networks.compiling import compiled
from rstbench.spec.training import Engine


def numerics(engine: Engine, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to bfloat16 where the engine asks for it."""
    if engine.precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


class Passes:
    """Forward passes of one network: images (N, C, H, W) in [0, 1] on the device to float32 logits (N, classes).

    The network is brought to the device and into the memory layout of the engine. `train` is what training steps call,
    compiled where the engine says inductor, anew where the gradients or the type of weights change: for the inner
    attack and for the update, and for predictions without gradients if the objective asks for some. `plain` is never
    compiled: validation, whose batches differ in size.

    Raises `DeviceError` if the engine asks for inductor and that does not work here.
    """

    def __init__(self, network: nn.Module, engine: Engine, device: torch.device) -> None:
        self.network, self._engine, self._device = network, engine, device
        self._layout = torch.channels_last if engine.layout == "channels_last" else torch.contiguous_format
        network.to(device).to(memory_format=self._layout)
        self._call: Callable[[Tensor], Tensor] = network
        if engine.compiler == "inductor":
            self._call = compiled(network, device)
        self._cast: list[tuple[nn.Module, str, Tensor, nn.Parameter]] = []

    def train(self, images: Tensor) -> Tensor:
        return self._logits(self._call, images)

    def plain(self, images: Tensor) -> Tensor:
        return self._logits(self.network, images)

    def of(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Passes of another network in the same numerics, not compiled."""
        return lambda images: self._logits(network, images)

    def _logits(self, call: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        with numerics(self._engine, self._device):
            logits = call(images.contiguous(memory_format=self._layout))
        return logits.float()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """For passes between which no weight changes, and none needs a gradient: in bf16 each is cast once.

        Autocast would cast all of them in every pass. What passes return has the same bits.
        """
        if self._engine.precision != "bf16":
            yield
            return
        if not self._cast:
            self._cast = [
                (layer, name, value, nn.Parameter(torch.empty_like(value, dtype=torch.bfloat16), requires_grad=False))
                for layer in self.network.modules()
                if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear))
                for name, value in layer.named_parameters(recurse=False)
            ]
        with torch.no_grad():
            for layer, name, value, cast in self._cast:
                cast.copy_(value)
                setattr(layer, name, cast)
        try:
            yield
        finally:
            for layer, name, value, _ in self._cast:
                setattr(layer, name, value)
