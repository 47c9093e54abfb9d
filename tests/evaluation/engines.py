"""Networks of ours, whole and broken, and what they answer in an engine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rstbench.attacks.pgd import cross_entropy
from rstbench.defenses.view import CallableView
from rstbench.evaluation.engine import Counter, in_engine
from rstbench.spec.attack_fields import AttackEngine
from rstbench.tickets.ticket import Ticket
from tests.networks.specs import digits
from tests.tickets.tickets import ticket

CPU = torch.device("cpu")
COUNT = 12
CLEAN = torch.rand(COUNT, 1, 8, 8, generator=torch.Generator().manual_seed(4))


def ours(family: str = "preact_resnet10", seed: int = 3, **changes: Any) -> nn.Module:
    made: Ticket = ticket(digits(family, width=0.125, **changes), seed=seed)
    return made.network()


def engine(**fields: Any) -> AttackEngine:
    return AttackEngine(**fields)


def broken() -> nn.Module:
    """Answers that are not numbers, from its second stage on."""
    network = ours()
    network.get_submodule("stages.1.0.conv1").weight[0] = torch.nan
    return network


def step(network: nn.Module, chosen: AttackEngine, counter: Counter | None = None) -> Tensor:
    """The gradient of a step on all images."""
    member = in_engine(network, chosen, CPU, counter or Counter())
    return CallableView(member).step(CLEAN, torch.arange(COUNT) % 10, cross_entropy).gradient


def near(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether two tensors differ by less than a share of the length of the expected one."""
    return float((found - expected).norm() / expected.norm()) < tolerance
