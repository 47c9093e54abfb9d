from __future__ import annotations

import pytest
import torch
from torch import nn

from rstbench.defenses.averaged import Averaged
from tests.attacks.networks import images, small_net


def test_logits_and_probabilities_are_averaged() -> None:
    members = [small_net(seed=seed) for seed in (1, 2, 3)]
    inputs = images(5)
    with torch.no_grad():
        logits = torch.stack([member(inputs) for member in members])
        torch.testing.assert_close(Averaged(members, "logits")(inputs), logits.mean(0))
        torch.testing.assert_close(Averaged(members, "probabilities")(inputs).exp(), logits.softmax(2).mean(0))


@pytest.mark.parametrize(("average", "chosen"), [("logits", 0), ("probabilities", 1)])
def test_one_that_is_very_sure_outweighs_two_in_logits_alone(average: str, chosen: int) -> None:
    class Fixed(nn.Module):
        def __init__(self, margin: float) -> None:
            super().__init__()
            self.margin = margin

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.tensor([self.margin, 0.0]).expand(len(inputs), 2)

    found = Averaged([Fixed(50.0), Fixed(-3.0), Fixed(-3.0)], average)(images(2))
    assert found.argmax(1).tolist() == [chosen] * 2


def test_its_members_follow_its_mode() -> None:
    members = [small_net(seed=1), small_net(seed=2)]
    Averaged(members, "logits").train().eval()
    assert not any(member.training for member in members)
