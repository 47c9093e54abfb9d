"""What a run optimises."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class Subject(Protocol):
    """What is optimised."""

    network: nn.Module
    variables: dict[str, Tensor]
    """Leaf tensors that the optimiser changes; their `.grad` is set by `collect_gradients`."""

    def refresh(self) -> None:
        """Bring the network's weights up to date with the variables."""

    def collect_gradients(self) -> None:
        """Turn the weight gradients of the last backward pass into `.grad` of the variables."""

    def require_gradients(self, on: bool) -> None:
        """Switch gradients to the weights on or off; off inside the inner attack."""

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of what is to be kept: weights or mask, and the batch-norm buffers."""


class Weights:
    """All parameters of a dense network."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.variables: dict[str, Tensor] = dict(network.named_parameters())

    def refresh(self) -> None:
        pass

    def collect_gradients(self) -> None:
        pass

    def require_gradients(self, on: bool) -> None:
        for parameter in self.network.parameters():
            parameter.requires_grad_(on)

    def snapshot(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone().contiguous() for name, value in self.network.state_dict().items()}
