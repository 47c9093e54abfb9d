"""Attacks that leave images out run on blocks: what still stands is asked about in full batches, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rstbench.evaluation.blocks import BLOCK_BYTES, Told, block_size, leaves_out
from rstbench.evaluation.craft import Crafted, Target, craft
from rstbench.spec.attacks import CraftedSpec
from rstbench.spec.battery import named_attack
from rstbench.spec.budgets import passes, written_out
from tests.attacks.networks import images, small_net

CPU = torch.device("cpu")
COUNT, BATCH = 23, 4
SHAPE = (3, 8, 8)
IMAGE_BYTES = 4 * 3 * 8 * 8
CLEAN = images(COUNT)
LABELS = small_net()(CLEAN).argmax(1)
LABELS[::6] = (LABELS[::6] + 1) % 5  # some are misclassified to begin with


def named(name: str, **changes: Any) -> CraftedSpec:
    spec = named_attack(name, **{"batch": BATCH, **changes})
    assert isinstance(spec, CraftedSpec)
    return written_out(spec, cifar=False)


class Watched(nn.Module):
    """Notes the size of every batch."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__()
        self.network = small_net(seed=seed)
        self.sizes: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.sizes.append(len(inputs))
        logits: Tensor = self.network(inputs)
        return logits


def silent(done: float, total: float, note: str) -> None:
    pass


def run(members: list[nn.Module], spec: CraftedSpec, progress: Any = silent) -> Crafted:
    return craft(Target(members, 5, CPU), CLEAN, LABELS, range(100, 100 + COUNT), spec, 3, progress)


ATTACKS: dict[str, dict[str, Any]] = {
    "pgd20": {"stop": "source_fooled", "epsilon": "16/255"},
    "pgd_l2": {"norm": "l2", "epsilon": 0.5, "stop": "source_fooled", "restarts": 2},
    "eot_pgd20": {"stop": "source_fooled", "epsilon": "16/255"},
    "ensemble_pgd20": {"stop": "source_fooled", "epsilon": "16/255"},
    "square": {"queries": 40, "epsilon": "16/255"},
    "bandits": {"queries": 40, "epsilon": "16/255"},
    "cw_inf_penalty": {"steps": 12},
    "arc": {"steps": 3},
    "hinge": {"steps": 3, "restarts": 4},
}


@pytest.mark.parametrize("name", ATTACKS)
def test_blocks_change_nothing_but_rounding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = named(name, **ATTACKS[name])
    members: list[nn.Module] = [small_net(seed=1)]
    if name in ("eot_pgd20", "ensemble_pgd20", "arc", "hinge"):
        members.append(small_net(seed=2))
    assert leaves_out(spec) and block_size(spec, SHAPE) > COUNT
    whole = run(members, spec)
    for block in (BATCH, 3 * BATCH):
        monkeypatch.setattr("rstbench.evaluation.blocks.BLOCK_BYTES", block * IMAGE_BYTES)
        assert block_size(spec, SHAPE) == block
        parts = run(members, spec)
        torch.testing.assert_close(parts.images, whole.images, rtol=0, atol=1e-5)
        assert parts.flags == whole.flags
        for member in members:
            assert torch.equal(member(parts.images).argmax(1), member(whole.images).argmax(1))
        if whole.queries is not None:
            assert parts.queries is not None and torch.equal(parts.queries, whole.queries)


@pytest.mark.parametrize("name, questions", [("pgd20", 20), ("square", 40), ("bandits", 40), ("cw_inf_penalty", 12)])
def test_survivors_fill_batches(name: str, questions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, network, alone = named(name, **ATTACKS[name]), Watched(), Watched()
    crafted = run([network], spec)
    probed = -(-COUNT // BATCH)
    asked = network.sizes[4 * probed : -probed]  # without the reliability checks before and after
    assert sum(asked) == (crafted.forward or 0) + (crafted.gradient or 0)
    # Each question about all that stand is cut into batches, of which only the last may be smaller.
    assert max(asked) == BATCH and len([size for size in asked if size < BATCH]) <= questions
    monkeypatch.setattr("rstbench.evaluation.blocks.BLOCK_BYTES", BATCH * IMAGE_BYTES)
    run([alone], spec)
    assert sum(alone.sizes) == sum(network.sizes) and len(network.sizes) < 0.9 * len(alone.sizes)


def test_fallen_images_cost_nothing_more() -> None:
    spec = named("pgd20", stop="source_fooled", epsilon="16/255")
    crafted = run([small_net()], spec)
    right = small_net()(crafted.images).argmax(1) == LABELS
    assert 0 < int(right.sum()) < COUNT
    assert crafted.gradient is not None
    assert 20 * int(right.sum()) < crafted.gradient < 20 * COUNT
    assert crafted.forward == 0


@pytest.mark.parametrize(
    "name, changes",
    [
        ("fgsm", {}), ("pgd20", {}), ("apgd_ce", {}), ("cw_l2", {}), ("cw_inf", {}), ("autoattack", {}),
        ("square", {"view": "switch"}), ("bandits", {"view": "switch"}), ("cw_inf_penalty", {"view": "switch"}),
    ],
)  # fmt: skip
def test_others_keep_their_batch(name: str, changes: dict[str, Any]) -> None:
    spec = named(name, **changes)
    assert not leaves_out(spec) and block_size(spec, SHAPE) == BATCH


def test_a_block_is_of_constant_size_in_whole_batches() -> None:
    spec = named("square", batch=100)
    assert block_size(spec, (3, 32, 32)) == 5400 and BLOCK_BYTES >= 5400 * 4 * 3 * 32 * 32
    assert block_size(spec, (3, 224, 224)) == 100
    assert block_size(spec, (3, 4096, 4096)) == 100  # never below a batch


def test_progress_inside_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rstbench.evaluation.blocks._TELL_S", 0.0)
    monkeypatch.setattr("rstbench.evaluation.blocks.BLOCK_BYTES", 3 * BATCH * IMAGE_BYTES)
    told: list[tuple[float, float, str]] = []
    run([small_net()], named("square", queries=40), lambda *arguments: told.append(arguments))
    done = [each[0] for each in told]
    assert done == sorted(done) and done[0] > 0
    assert {12.0, 23.0} <= set(done) and done[-1] == COUNT
    assert {each[1:] for each in told} == {(COUNT, "images")}
    assert len([each for each in done if 0 < each < 12]) > 5 and len([each for each in done if 12 < each < 23]) > 5


def test_progress_may_end_an_attack_inside_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    class Enough(Exception):
        pass

    def progress(done: float, total: float, note: str) -> None:
        if done > 3:
            raise Enough

    monkeypatch.setattr("rstbench.evaluation.blocks._TELL_S", 0.0)
    network = Watched()
    with pytest.raises(Enough):
        run([network], named("bandits", queries=400), progress)
    assert sum(network.sizes) < COUNT * 400 / 2


def test_progress_is_not_told_for_every_pass() -> None:
    told: list[float] = []
    counter = Told(lambda done, total, note: told.append(done), named("square"), 10)
    counter.block(0, 10)
    for _ in range(1000):
        counter.passes(10)
    assert len(told) < 5
    counter.done()
    assert told[-1] == 10


def test_a_share_never_passes_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rstbench.evaluation.blocks._TELL_S", 0.0)
    told: list[float] = []
    spec = named("pgd20")
    counter = Told(lambda done, total, note: told.append(done), spec, 10)
    counter.passes(100)  # the reliability checks, before any block
    assert told == []
    counter.block(4, 8)
    counter.passes(round(2 * passes(spec)))
    counter.passes(round(100 * passes(spec)))
    assert told == [pytest.approx(6.0), 8.0]


def test_shares_are_of_what_is_asked() -> None:
    told: list[float] = []

    def after(spec: CraftedSpec, asked: float, members: int = 1) -> float:
        counter = Told(lambda done, total, note: told.append(done), spec, 10, members)
        counter.block(0, 10)
        counter._last = float("-inf")
        counter.passes(round(asked))
        return told[-1]

    # ARC asks each member itself, a view is asked as one.
    arc, eot = named("arc"), named("eot_pgd20")
    assert after(arc, 5 * 3 * passes(arc), 3) == pytest.approx(5.0, rel=0.01)
    assert after(eot, 5 * passes(eot), 3) == pytest.approx(5.0)
    # What fell at smaller epsilons does not take part.
    later = named("pgd20").model_copy(update={"smaller_epsilons": ("1/255",)})
    assert after(later, 5 * passes(named("pgd20"))) == pytest.approx(5.0) and passes(later) < passes(named("pgd20"))
