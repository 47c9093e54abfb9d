"""A small network trained on scikit-learn's handwritten digits, so that attacks meet a learned boundary."""

from __future__ import annotations

from functools import lru_cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional


@lru_cache(maxsize=1)
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """The network, and the last 300 images (300, 1, 8, 8) in [0, 1] with labels; they are not trained on.

    Trained against signed steps of 0.1, so that something stands under small budgets.
    """
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(data.target)
    random = torch.Generator().manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in network.parameters():
            bound = 1 / (parameter[0].numel() ** 0.5)
            parameter.copy_((torch.rand(parameter.shape, generator=random) * 2 - 1) * bound)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(150):
        rows = torch.randint(0, 1497, (64,), generator=random)
        batch = images[rows].requires_grad_(True)
        (gradient,) = torch.autograd.grad(functional.cross_entropy(network(batch), labels[rows]), batch)
        batch = (batch.detach() + 0.1 * gradient.sign()).clamp(0, 1)
        optimizer.zero_grad()
        functional.cross_entropy(network(batch), labels[rows]).backward()
        optimizer.step()
    optimizer.zero_grad()
    return network.eval().requires_grad_(False), images[1497:], labels[1497:]
