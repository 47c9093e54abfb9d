"""Search for a ticket: edge-popup with an adversarial inner loop (paper, Section 3.2 and Eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rstbench.networks.init import fans, kaiming_uniform_scores
from rstbench.tickets.mask import expand, kept_units, maskable, ranked, score_gradient, select, unit_shape


class Scores:
    """Scores of a mask over the frozen weights theta of a network: a `training.Subject`.

    The mask, and with it theta * mask, is computed once for each optimiser step and written into the network, so the
    inner attack runs a plain network whose weights need no gradient. The straight-through gradient of the scores is
    then sign(s) * theta * dL/dw, from one full backward pass: bit for bit what autograd gives when the mask is part
    of the graph of every forward pass.

    Layer-wise ratio: every layer keeps the same share of its units. Biases and affine batch-norm parameters, where a
    network has them, stay at their initial values. Scores start Kaiming-uniform with a = sqrt(5) (authors' code), from
    the stream of (seed, layer name, shape).
    """

    def __init__(self, network: nn.Module, remaining_ratio: float, pattern: str, rank: str, seed: int) -> None:
        self.network = network
        self.remaining_ratio, self.rank = remaining_ratio, rank
        self._weights = maskable(network)
        self.variables: dict[str, Tensor] = {}
        self._theta: dict[str, Tensor] = {}
        self._mask: dict[str, Tensor] = {}
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        for name, weight in self._weights.items():
            shape = unit_shape(tuple(weight.shape), pattern)
            start = kaiming_uniform_scores(seed, name, shape, fans(tuple(weight.shape))[0])
            self.variables[name] = torch.from_numpy(start).to(weight.device).requires_grad_(True)
            self._theta[name] = weight.detach().clone()

    def masks(self) -> dict[str, Tensor]:
        """Boolean mask of every layer, shape of its scores; exactly k units are True."""
        chosen = {}
        for name, scores in self.variables.items():
            kept = kept_units(scores.numel(), self.remaining_ratio)
            chosen[name] = select(ranked(scores.detach(), self.rank), kept)
        return chosen

    @torch.no_grad()
    def refresh(self) -> None:
        self._mask = self.masks()
        for name, mask in self._mask.items():
            theta = self._theta[name]
            torch.mul(theta, expand(mask, theta), out=self._weights[name].data)

    def collect_gradients(self) -> None:
        for name, scores in self.variables.items():
            gradient = self._weights[name].grad
            if gradient is None:
                scores.grad = torch.zeros_like(scores)  # a layer that the forward pass does not reach
                continue
            scores.grad = score_gradient(gradient, self._theta[name], scores.detach(), self.rank)

    def require_gradients(self, on: bool) -> None:
        for weight in self._weights.values():
            weight.requires_grad_(on)

    def snapshot(self) -> dict[str, Tensor]:
        kept = {f"mask/{name}": mask.cpu().clone() for name, mask in self._mask.items()}
        weights = dict(self.network.named_parameters())
        for name, value in self.network.state_dict().items():
            if name not in weights:
                kept[f"buffer/{name}"] = value.cpu().clone()
        return kept
