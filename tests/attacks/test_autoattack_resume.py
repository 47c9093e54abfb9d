from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from rstbench.attacks.found import Found
from rstbench.attacks.threat import Threat
from rstbench.defenses.view import CallableView
from rstbench.defenses.views import SwitchView
from tests.attacks.autoattack_runs import attack, hard
from tests.attacks.digits import trained


class Kept:
    """Keeps the state in memory; dies at the save of this number, before or after it is kept."""

    def __init__(self, dies_at: int | None = None, keeps: bool = True) -> None:
        self.data: bytes | None = None
        self.saves, self.dies_at, self.keeps = 0, dies_at, keeps

    def load(self) -> bytes | None:
        return self.data

    def save(self, data: bytes) -> None:
        self.saves += 1
        if self.saves == self.dies_at and not self.keeps:
            raise KeyboardInterrupt
        self.data = data
        if self.saves == self.dies_at:
            raise KeyboardInterrupt


class Counting(CallableView):
    """Dies at the query of this number."""

    def __init__(self, network: Callable[[Tensor], Tensor], dies_at: int | None = None) -> None:
        self.queries = 0

        def logits(images: Tensor) -> Tensor:
            self.queries += 1
            if self.queries == dies_at:
                raise KeyboardInterrupt
            return network(images)

        super().__init__(logits)


def four_classes(images: Tensor) -> Tensor:
    return trained()[0](images)[:, :4]


def cheap() -> tuple[Tensor, Tensor]:
    """Nine images of the first four classes: three targets are less work than nine."""
    _, inputs, labels = trained()
    rows = (labels < 4).nonzero()[:9, 0]
    return inputs[rows], labels[rows]


def run(version: str, view: CallableView | None = None, saved: Kept | None = None, **options: object) -> Found:
    options = {"batch": 4, "steps": 2, "square_queries": 5, "eot_queries": 2} | options
    return attack(view or CallableView(four_classes), *cheap(), version=version, saved=saved, **options)


@pytest.mark.parametrize("version", ["standard", "rand"])
@pytest.mark.parametrize("keeps", [True, False])
def test_killed_at_any_save_it_goes_on_with_the_same_bits(version: str, keeps: bool) -> None:
    whole, kept = run(version), Kept()
    assert torch.equal(run(version, None, kept).images, whole.images)
    assert kept.saves > 5
    for dies_at in range(1, kept.saves + 1):
        again = Kept(dies_at, keeps)
        with pytest.raises(KeyboardInterrupt):
            run(version, None, again)
        again.dies_at = None
        resumed = run(version, None, again)
        assert torch.equal(resumed.images, whole.images) and resumed.flags == whole.flags
        # After a save that was kept, nothing is done twice; otherwise one batch is.
        assert again.saves == kept.saves + (0 if keeps else 1)


@pytest.mark.parametrize("version", ["standard", "rand"])
def test_killed_at_any_query_it_repeats_one_batch_at_most(version: str) -> None:
    counting, places = Counting(four_classes), [0]
    whole = run(version, counting, progress=lambda *_: places.append(counting.queries))
    for dies_at in range(2, counting.queries, max(counting.queries // 8, 1)):
        kept, first, second = Kept(), Counting(four_classes, dies_at), Counting(four_classes)
        with pytest.raises(KeyboardInterrupt):
            run(version, first, kept)
        resumed = run(version, second, kept)
        assert torch.equal(resumed.images, whole.images) and resumed.flags == whole.flags
        longest = max(b - a for a, b in pairwise(places))
        assert counting.queries <= first.queries + second.queries <= counting.queries + longest


def test_a_finished_run_asks_nothing() -> None:
    kept = Kept()
    whole = run("standard", None, kept)
    silent = Counting(four_classes)
    assert torch.equal(run("standard", silent, kept).images, whole.images)
    assert silent.queries == 0


def test_a_foreign_or_damaged_state_starts_over() -> None:
    inputs, labels = cheap()
    kept = Kept()
    whole = run("standard", None, kept)
    assert kept.data is not None
    flipped = bytearray(kept.data)
    flipped[-100] ^= 1
    for data in (b"", b"junk" * 30, kept.data[:-7], bytes(flipped), kept.data + b"x"):
        broken = Kept()
        broken.data = data
        assert torch.equal(run("standard", None, broken).images, whole.images)
        assert broken.saves == kept.saves

    def again(inputs: Tensor, labels: Tensor, saved: Kept | None, **other: object) -> Found:
        options = {"batch": 4, "steps": 2, "square_queries": 5, "eot_queries": 2} | other
        return attack(CallableView(four_classes), inputs, labels, saved=saved, **options)

    others: list[dict[str, object]] = [
        {"seed": 4}, {"batch": 5}, {"steps": 3}, {"square_queries": 6}, {"threat": Threat("linf", 0.05)},
        {"threat": Threat("l2", 0.06)}, {"version": "rand"},
    ]  # fmt: skip
    for other in others:
        foreign = Kept()
        foreign.data = kept.data
        fresh = again(inputs, labels, None, **other)  # type: ignore[arg-type]
        assert torch.equal(again(inputs, labels, foreign, **other).images, fresh.images)  # type: ignore[arg-type]
        assert foreign.saves > 1
    for changed in ((inputs.flip(0), labels), (inputs, labels.flip(0)), (inputs[:-1], labels[:-1])):
        foreign = Kept()
        foreign.data = kept.data
        assert torch.equal(again(*changed, foreign).images, again(*changed, None).images)


def test_a_switching_view_resumes_if_it_is_reseeded() -> None:
    network, inputs, labels = hard(20)

    def begin(saved: Kept) -> Found:
        generator = torch.Generator().manual_seed(0)
        view = SwitchView([network, lambda x: network(x.roll(1, dims=3))], [0.5, 0.5], generator)
        return attack(view, inputs, labels, saved=saved, reseed=generator.manual_seed)

    whole, killed = begin(Kept()), Kept(4)
    with pytest.raises(KeyboardInterrupt):
        begin(killed)
    resumed = begin(killed)
    assert torch.equal(resumed.images, whole.images)
    assert "randomised_output" in whole.flags and whole.flags == resumed.flags


def test_progress_after_each_batch() -> None:
    network, inputs, labels = hard(20)
    kept, seen = Kept(), []
    attack(network, inputs, labels, saved=kept, progress=lambda done, total, note: seen.append((done, total, note)))
    assert len(seen) == kept.saves  # a save after the first look, a line at the end
    assert [done for done, *_ in seen] == sorted(done for done, *_ in seen)
    assert seen[0][2] == "apgd-ce, batch 1 of 2" or seen[0][2] == "apgd-ce, batch 1 of 3"
    assert seen[-1][:2] == (4, 4)
