from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rstbench.attacks.threat import Threat
from rstbench.compat import import_autoattack
from rstbench.defenses.views import SwitchView
from tests.attacks.autoattack_runs import attack, hard


class Unlucky:
    """A defense of two members; the second always says 0, and answers half of the queries."""

    def __init__(self, network: nn.Module) -> None:
        self.members = [network, lambda x: x.flatten(1).sum(1, keepdim=True) * 0 + torch.eye(10)[0] * 5]
        self.view = SwitchView(self.members, [0.5, 0.5], torch.Generator().manual_seed(0))

    def expected(self, images: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([(m(images).argmax(1) == labels).float() for m in self.members]).mean(0)


def test_rand_drops_no_image_for_one_unlucky_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    network, inputs, labels = hard(60)
    inputs, labels = inputs[labels > 0], labels[labels > 0]
    threat = Threat("linf", 0.1)
    defense = Unlucky(network)
    found = attack(defense.view, inputs, labels, threat, version="rand", batch=20, steps=10, eot_queries=6,
                   expected_accuracy=defense.expected).images  # fmt: skip
    defense = Unlucky(network)
    package = import_autoattack()
    monkeypatch.setattr(package.autoattack.checks, "check_dynamic", lambda *_, **__: None)
    whole = package.AutoAttack(defense.view.logits, norm="Linf", eps=0.1, seed=3, version="rand")
    whole.apgd = package.autopgd_base.APGDAttack(
        defense.view.logits, n_iter=10, norm="Linf", eps=0.1, seed=3, eot_iter=6, device="cpu"
    )
    dropped = whole.run_standard_evaluation(inputs, labels, batch_size=20)[0]
    clean, ours, reference = (float(defense.expected(each, labels).mean()) for each in (inputs, found, dropped))
    assert ours < reference - 0.02
    assert ours < clean - 0.05
    each = [defense.expected(i, labels) for i in (found, inputs)]
    assert bool((each[0] <= each[1]).all())  # never worse than the clean image


def test_rand_keeps_the_higher_loss_among_equals() -> None:
    network, inputs, labels = hard(20)
    found = attack(network, inputs, labels, version="rand", expected_accuracy=lambda x, y: torch.ones(len(x))).images
    loss = nn.functional.cross_entropy(network(found), labels, reduction="none")
    clean = nn.functional.cross_entropy(network(inputs), labels, reduction="none")
    assert bool((loss >= clean).all()) and float((loss - clean).mean()) > 0.05


def test_rand_estimates_where_no_expectation_is_given() -> None:
    network, inputs, labels = hard(40)
    given = attack(network, inputs, labels, version="rand",
                   expected_accuracy=lambda x, y: (network(x).argmax(1) == y).float())  # fmt: skip
    # Of a defense that does not switch, the estimate is the truth.
    assert torch.equal(attack(network, inputs, labels, version="rand").images, given.images)
