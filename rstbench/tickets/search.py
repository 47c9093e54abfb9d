"""Search for a ticket: edge-popup with an adversarial inner loop (paper, Section 3.2 and Eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rstbench.networks.init import fans, kaiming_uniform_scores
from rstbench.networks.layers import last_batch_norm
from rstbench.spec.training import SearchSpec
from rstbench.tickets.mask import expand, maskable, ranked, score_gradient, select, unit_shape
from rstbench.tickets.ratios import kept_by_layer


class Scores:
    """Scores of a mask over the frozen weights theta of a network: a `training.Subject`.

    The mask, and with it theta * mask, is computed once for each optimiser step and written into the network, so the
    inner attack runs a plain network whose weights need no gradient. The straight-through gradient of the scores is
    then sign(s) * theta * dL/dw, from one full backward pass: bit for bit what autograd gives when the mask is part
    of the graph of every forward pass.

    Layer-wise ratio: every layer keeps the same share of its units, or what `spec.layer_power` gives it
    (`ratios.layer_ratios`). Biases and affine batch-norm parameters, where a network has them, stay at their initial
    values. Scores start Kaiming-uniform with a = sqrt(5) (authors' code), times `spec.score_scale`, from the stream of
    (seed, layer name, shape).

    `spec.last_bn_affine` trains scale and shift of the last batch norm, which the network must have, beside the
    scores and as they are: same learning rate, momentum and weight decay. Deviation from Robust Binary Models
    (NeurIPS 2022): there a batch norm is added behind the classifier, here the network's own last one is used.

    Raises `SpecError` where `spec.last_bn_affine` asks for parameters that the network does not have.
    """

    def __init__(self, network: nn.Module, remaining_ratio: float, pattern: str, spec: SearchSpec, seed: int) -> None:
        self.network = network
        self.pattern, self.rank, self.layer_power = pattern, spec.rank, spec.layer_power
        self._weights = maskable(network)
        self._scores: dict[str, Tensor] = {}
        self._theta: dict[str, Tensor] = {}
        self._mask: dict[str, Tensor] = {}
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        for name, weight in self._weights.items():
            shape = unit_shape(tuple(weight.shape), pattern)
            start = kaiming_uniform_scores(seed, name, shape, fans(tuple(weight.shape))[0], spec.score_scale)
            scores = torch.from_numpy(start).to(weight.device)
            if scores.shape == weight.shape:  # everything that a step does with both then follows memory
                scores = torch.empty_like(weight).copy_(scores)
            self._scores[name] = scores.requires_grad_(True)
            self._theta[name] = weight.detach().clone()
        self._parameters: dict[str, nn.Parameter] = {}
        if spec.last_bn_affine:
            norm = last_batch_norm(network)
            named = dict(network.named_parameters())
            self._parameters = {name: named[name] for name in (f"{norm}.weight", f"{norm}.bias")}
        self.variables: dict[str, Tensor] = {**self._scores, **self._parameters}
        self.choose(remaining_ratio)

    def choose(self, remaining_ratio: float) -> None:
        """The ratio in (0, 1] that masks keep from now on."""
        self.remaining_ratio = remaining_ratio
        self._kept = kept_by_layer(self._weights, remaining_ratio, self.pattern, self.layer_power)

    def masks(self) -> dict[str, Tensor]:
        """Boolean mask of every layer, shape of its scores; exactly k units are True."""
        return {
            name: select(ranked(scores.detach(), self.rank), self._kept[name]) for name, scores in self._scores.items()
        }

    @torch.no_grad()
    def refresh(self) -> None:
        self._mask = self.masks()
        for name, mask in self._mask.items():
            theta = self._theta[name]
            # A copy that casts and a product of floats are faster than a product with a boolean.
            self._weights[name].data.copy_(expand(mask, theta)).mul_(theta)

    def collect_gradients(self) -> None:
        for name, scores in self._scores.items():
            gradient = self._weights[name].grad
            if gradient is None:
                scores.grad = torch.zeros_like(scores)  # a layer that the forward pass does not reach
                continue
            scores.grad = score_gradient(gradient, self._theta[name], scores.detach(), self.rank)

    def require_gradients(self, on: bool) -> None:
        for weight in (*self._weights.values(), *self._parameters.values()):
            weight.requires_grad_(on)

    def snapshot(self) -> dict[str, Tensor]:
        """Copies on the CPU: `mask/<layer>`, `buffer/<name>`, and `parameter/<name>` of what is trained beside them."""
        kept = {f"mask/{name}": mask.cpu().contiguous().clone() for name, mask in self._mask.items()}
        weights = dict(self.network.named_parameters())
        for name, value in self.network.state_dict().items():
            if name not in weights:
                kept[f"buffer/{name}"] = value.cpu().clone()
        for name, parameter in self._parameters.items():
            kept[f"parameter/{name}"] = parameter.detach().cpu().clone()
        return kept
