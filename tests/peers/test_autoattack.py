"""AutoAttack through the adapter, and a whole run of the package."""

from __future__ import annotations

import pytest
import torch

from rstbench.attacks.threat import Threat
from rstbench.compat import import_autoattack
from rstbench.evaluation.craft import Target, craft
from rstbench.evaluation.numerics import exact_fp32
from rstbench.spec.battery import named_attack
from rstbench.training import derive_seed
from tests.peers.defended import CPU, Defended, seeded
from tests.peers.table import Row, Table, timed

pytestmark = pytest.mark.peers

EPS, SEED = 8 / 255, 0


def test_exactly_the_robust_set_of_the_package(few: Defended, table: Table) -> None:
    # Smaller than the number of images, and no divisor of it: survivors are regrouped after every attack.
    batch = max(1, len(few.images) // 4 - 1)
    spec = named_attack("autoattack", "linf", "8/255", batch=batch)
    target = Target([few.network], 10, CPU)
    count = range(len(few.images))
    made, own_seconds = timed(
        lambda: craft(target, few.images, few.labels, count, spec, SEED, lambda *_: None)  # type: ignore[arg-type]
    )
    package = import_autoattack().AutoAttack(
        few.network, norm="Linf", eps=EPS, seed=derive_seed(SEED, "autoattack") % 2**32, version="standard",
        device="cpu",
    )  # fmt: skip
    with seeded(), exact_fp32(CPU):
        (reference, predicted), seconds = timed(
            lambda: package.run_standard_evaluation(few.images, few.labels, batch_size=batch)
        )
    threat = Threat("linf", EPS)
    clean, mine, other = (few.right(each, threat) for each in (few.images, made.images, reference))
    accuracies = [100 * float(right.double().mean()) for right in (clean, mine, other)]
    table.add(Row("AutoAttack", "pyautoattack", len(few.images), *accuracies, own_seconds, seconds))
    assert torch.equal(made.images, reference)
    assert torch.equal(mine, predicted == few.labels)
    assert 0 < int(mine.sum()) < int(clean.sum())
    assert made.flags == ()
