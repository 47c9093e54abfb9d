"""Defenses that are broken on purpose, and randomised ensembles whose robust accuracy is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog, nnls
from torch import Tensor, nn

from rstbench.attacks.threat import Threat
from tests.attacks.networks import linear


class _Borrowed(torch.autograd.Function):
    """Forward: the first argument. Backward: the gradient goes to the second, times a sign."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, shown: Tensor, lent: Tensor, sign: float) -> Tensor:
        ctx.sign = sign  # type: ignore[attr-defined]
        return shown.clone()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[None, Tensor, None]:  # type: ignore[override]
        return None, ctx.sign * gradient, None  # type: ignore[attr-defined]


class Masked(nn.Module):
    """Right logits with the gradient of another network, or with the sign of its own turned round."""

    def __init__(self, network: nn.Module, other: nn.Module | None = None) -> None:
        super().__init__()
        self.network, self.other = network, other

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        if self.other is None:
            return _Borrowed.apply(logits.detach(), logits, -1.0)
        return _Borrowed.apply(logits.detach(), self.other(images), 1.0)


class Quantised(nn.Module):
    """Pixels rounded to multiples of 1 / levels: no gradient, and the same answer all over a small cube."""

    def __init__(self, network: nn.Module, levels: int = 8) -> None:
        super().__init__()
        self.network, self.levels = network, levels

    def forward(self, images: Tensor) -> Tensor:
        return self.network(torch.round(images * self.levels) / self.levels)


class Saturated(nn.Module):
    """Logits so large that the cross-entropy of a right answer is exactly zero in fp32."""

    def __init__(self, network: nn.Module, factor: float = 1e4) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * self.network(images)


class Noisy(nn.Module):
    """Gaussian noise on every image of every query."""

    def __init__(self, network: nn.Module, deviation: float, seed: int = 0) -> None:
        super().__init__()
        self.network, self.deviation = network, deviation
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images + self.deviation * torch.randn(images.shape, generator=self.generator))


class Detector(nn.Module):
    """The same logits for every image with a pixel that no 8-bit image has."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        scaled = images * 255
        perturbed = ((scaled - scaled.round()).abs() > 1e-2).flatten(1).any(1)
        logits = self.network(images)
        return torch.where(perturbed[:, None], torch.zeros_like(logits), logits)


class Probabilities(nn.Module):
    """Softmax as the last layer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).softmax(1)


class Detached(nn.Module):
    """A prediction that leaves autograd on the way, as one made with numpy does."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self.network(images.detach()).numpy().copy())


def eight_bit(images: Tensor) -> Tensor:
    """The nearest images that 8 bits can hold."""
    return (images * 255).round() / 255


def falls(weight: Tensor, bias: Tensor, images: Tensor, labels: Tensor, threat: Threat) -> Tensor:
    """Which images (N, ...) of a linear classifier some perturbation of the ball fools, bool (N,).

    Exact where the ball does not reach the edge of [0, 1].
    """
    flat = images.flatten(1).double()
    logits = flat @ weight.double().T + bias.double()
    gap = logits.gather(1, labels[:, None]) - logits
    away = weight.double()[labels][:, None] - weight.double()[None]
    reach = threat.epsilon * torch.linalg.vector_norm(away, ord=1 if threat.norm == "linf" else 2, dim=2)
    return ((reach > gap) & (torch.arange(len(bias)) != labels[:, None])).any(1)


@dataclass(frozen=True)
class LinearEnsemble:
    """A random linear classifier for every draw, one image, and the label that all members give it.

    weights (members, classes, pixels), biases (members, classes), image (1, 1, 1, pixels).
    """

    weights: Tensor
    biases: Tensor
    probabilities: tuple[float, ...]
    image: Tensor

    @property
    def label(self) -> Tensor:
        return torch.zeros(1, dtype=torch.int64)

    @property
    def members(self) -> list[nn.Module]:
        return [linear(weight, bias) for weight, bias in zip(self.weights, self.biases, strict=True)]

    def expected_accuracy(self, image: Tensor) -> float:
        right = [bool(member(image).argmax(1) == 0) for member in self.members]
        return sum(p for p, correct in zip(self.probabilities, right, strict=True) if correct)

    def optimum(self, threat: Threat, clear: float = 0.02) -> float | None:
        """The lowest expected accuracy that any image of the ball and of [0, 1] gives; by trying every set of members.

        None where the answer hangs on less than a share `clear` of epsilon.
        """
        return _lowest(self.probabilities, lambda fooled: self._fooled_together(fooled, threat), threat, clear)

    def alone(self, threat: Threat, clear: float = 0.02) -> float | None:
        """The lowest expected accuracy to be had by fooling one member, and no other."""
        slack = [self._fooled_together([number], threat) for number in range(len(self.probabilities))]
        if any(abs(each) < clear * threat.epsilon for each in slack):
            return None
        return 1 - max((p for p, each in zip(self.probabilities, slack, strict=True) if each > 0), default=0.0)

    def _fooled_together(self, fooled: Sequence[int], threat: Threat) -> float:
        """How much of the budget is left, in units of the pixel range; below zero: this set cannot be fooled at once.

        For l-infinity, by how much all boundaries can be passed at once.
        """
        image = self.image.flatten().double().numpy()
        best = -np.inf
        for rivals in itertools.product(range(1, self.weights.shape[1]), repeat=len(fooled)):
            weight = self.weights.double().numpy()
            rows = np.stack([weight[m, rival] - weight[m, 0] for m, rival in zip(fooled, rivals, strict=True)])
            bias = self.biases.double().numpy()
            short = np.array([bias[m, 0] - bias[m, rival] for m, rival in zip(fooled, rivals, strict=True)])
            length = np.linalg.norm(rows, axis=1)
            rows, goals = rows / length[:, None], (short - rows @ image) / length
            best = max(best, _linf_slack(rows, goals, image, threat.epsilon) if threat.norm == "linf"
                       else threat.epsilon - _shortest(rows, goals, image))  # fmt: skip
        return best


def random_ensemble(seed: int, members: int, classes: int, pixels: int, gap: float = 0.25) -> LinearEnsemble:
    """An ensemble all members of which are right; every third has equal probabilities.

    gap: scale of the distance to the boundaries.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(members, classes, pixels, generator=generator)
    image = 0.3 + 0.4 * torch.rand(pixels, generator=generator)
    logits = torch.randn(members, classes, generator=generator) * gap * 0.3 * pixels**0.5
    logits[:, 0] = logits.max(dim=1).values + torch.rand(members, generator=generator) * gap * pixels**0.5
    drawn = torch.rand(members, generator=generator) + 0.2
    if seed % 3 == 0:
        drawn = torch.ones(members)
    biases = logits - weights @ image
    return LinearEnsemble(
        weights, biases, tuple((drawn.double() / drawn.double().sum()).tolist()), image.view(1, 1, 1, -1)
    )


def _lowest(
    probabilities: Sequence[float], slack_of: Callable[[list[int]], float], threat: Threat, clear: float
) -> float | None:
    everyone = range(len(probabilities))
    subsets = [list(s) for size in range(1, len(everyone) + 1) for s in itertools.combinations(everyone, size)]
    best, unclear = 1.0, False
    for subset in subsets:
        left = 1.0 - sum(probabilities[member] for member in subset)
        if left > best - 1e-9:
            continue
        slack = slack_of(subset)
        unclear |= abs(slack) < clear * threat.epsilon
        best = left if slack > 0 else best
    return None if unclear else best


def _linf_slack(rows: np.ndarray, goals: np.ndarray, image: np.ndarray, epsilon: float) -> float:
    """max over the box of min_k rows[k] @ delta - goals[k]: a linear programme."""
    low, high = np.maximum(-epsilon, -image), np.minimum(epsilon, 1 - image)
    cost = np.zeros(len(image) + 1)
    cost[-1] = -1
    bounds = [*zip(low, high, strict=True), (None, None)]
    return float(-linprog(cost, A_ub=np.hstack([-rows, np.ones((len(rows), 1))]), b_ub=-goals, bounds=bounds).fun)


def _shortest(rows: np.ndarray, goals: np.ndarray, image: np.ndarray) -> float:
    """L2 length of the shortest delta with rows @ delta >= goals and image + delta in [0, 1]; infinite if none.

    Least distance programming by non-negative least squares (Lawson and Hanson 1974, Chapter 23).
    """
    identity = np.eye(len(image))
    left, right = np.vstack([rows, identity, -identity]), np.concatenate([goals, -image, image - 1])
    system = np.vstack([left.T, right[None]])
    target = np.zeros(len(system))
    target[-1] = 1
    residual = system @ nnls(system, target)[0] - target
    return np.inf if np.linalg.norm(residual) < 1e-9 else float(np.linalg.norm(residual[:-1] / residual[-1]))
