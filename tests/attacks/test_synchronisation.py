"""How often the host must wait for the device: counted on the CPU, by the operations whose size or value it needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rstbench.attacks.bandits import bandits
from rstbench.attacks.draws import PerImage
from rstbench.attacks.found import Found
from rstbench.attacks.pgd import pgd
from rstbench.attacks.square import square
from rstbench.attacks.threat import Threat
from rstbench.defenses.view import CallableView
from tests.attacks.digits import trained

WAITS = (
    "aten._local_scalar_dense",
    "aten.nonzero",
    "aten.masked_select",
    "aten.is_nonzero",
    "aten.equal",
    "aten.unique",
)
COUNT = 60


class Waits(TorchDispatchMode):
    """Counts operations that return a value, or a tensor of a size, that the host must know."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = str(func)
        if name.startswith(WAITS):
            self.seen[name] += 1
        if name.startswith(("aten.index.", "aten.index_put")):
            # A mask among the indices is turned into places first.
            self.seen["mask"] += sum(each is not None and each.dtype == torch.bool for each in args[1])
        return func(*args, **(kwargs or {}))


def images_and_labels() -> tuple[Tensor, Tensor]:
    _, inputs, labels = trained()
    return inputs[:COUNT], labels[:COUNT]


def run(name: str, norm: str) -> tuple[Found, int]:
    """What the attack found, and how often it asked."""
    network, (inputs, labels) = trained()[0], images_and_labels()
    threat = Threat(norm, {"linf": 0.1, "l2": 0.8}[norm])
    asked = [0]

    def counted(batch: Tensor) -> Tensor:
        asked[0] += 1
        logits: Tensor = network(batch)
        return logits

    view, draws = CallableView(counted), PerImage(0, range(COUNT))
    attacks: dict[str, Callable[[], Found]] = {
        "pgd": lambda: pgd(
            view, inputs, labels, threat=threat, draws=draws, step_size=threat.epsilon / 4, steps=20,
            stop="source_fooled",
        ),
        "square": lambda: square(view, inputs, labels, threat=threat, draws=draws, queries=150),
        "bandits": lambda: bandits(
            view, inputs, labels, threat=threat, draws=draws, queries=150, fd_eta=0.1,
            image_lr=threat.epsilon / 5, online_lr={"linf": 100.0, "l2": 0.1}[norm], exploration=1.0, tile=None,
        ),
    }  # fmt: skip
    return attacks[name](), asked[0]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["pgd", "square", "bandits"])
def test_at_most_one_wait_for_a_question(name: str, norm: str) -> None:
    waits = Waits()
    with waits:
        found, asked = run(name, norm)
    fallen = int((trained()[0](found.images).argmax(1) != images_and_labels()[1]).sum())
    assert 3 < fallen < COUNT and asked >= 20
    assert set(waits.seen) - {"mask"} <= {"aten.nonzero.default"} and waits.seen["mask"] == 0
    # Who still stands is all that the host asks for: how many there are decides the shape of what comes next.
    assert 0 < waits.seen["aten.nonzero.default"] <= (asked if name != "bandits" else (asked - 1) // 3 + 1)


def test_waits_are_seen() -> None:
    waits = Waits()
    with waits:
        values = torch.arange(4.0)
        bool((values > 1).all())
        values[values > 1]
        values[values > 1] = torch.zeros(2)
    assert waits.seen["mask"] == 2 and waits.seen["aten._local_scalar_dense.default"] == 1
