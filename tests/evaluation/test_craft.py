from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rstbench.attacks.pgd import pgd
from rstbench.attacks.threat import Threat, distances, random_start
from rstbench.defenses.view import CallableView
from rstbench.defenses.views import EnsembleView, ExpectationView
from rstbench.errors import DeviceError, SpecError
from rstbench.evaluation.craft import craft, threat_of, view_of
from rstbench.evaluation.judge import check_images
from rstbench.spec.models import Engine, PgdSpec
from rstbench.training import generator
from tests.attacks.networks import images, small_net

CPU = torch.device("cpu")


def attack(**fields: Any) -> PgdSpec:
    return PgdSpec(**{"kind": "pgd", "step_size": "2/255", "steps": 5, "batch": 8} | fields)


class Watched(nn.Module):
    """Notes size, layout and precision of every batch, and runs out of memory above a limit."""

    def __init__(self, limit: int = 1000, seed: int = 1) -> None:
        super().__init__()
        self.network, self.limit = small_net(seed=seed), limit
        self.sizes: list[int] = []
        self.layouts: set[bool] = set()
        self.kinds: set[torch.dtype] = set()

    def forward(self, inputs: Tensor) -> Tensor:
        self.sizes.append(len(inputs))
        self.layouts.add(inputs.is_contiguous(memory_format=torch.channels_last) and not inputs.is_contiguous())
        if len(inputs) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        logits: Tensor = self.network(inputs)
        self.kinds.add(logits.dtype)
        return logits


def run(
    network: nn.Module | list[nn.Module], spec: PgdSpec, count: int = 19, seed: int = 3, **options: Any
) -> tuple[Tensor, int]:
    clean = images(19)
    labels = small_net()(clean).argmax(1)
    members = network if isinstance(network, list) else [network]
    return craft(members, clean[:count], labels[:count], spec, seed, CPU, lambda *_: None, **options)


def test_batches_are_attacked_one_by_one() -> None:
    spec, clean = attack(), images(19)
    labels = small_net()(clean).argmax(1)
    found, used = run(small_net(), spec)
    for begin in (0, 8):
        rows = slice(begin, begin + 8)
        expected = pgd(
            CallableView(small_net()), clean[rows], labels[rows], threat=Threat("linf", 8 / 255), steps=5,
            generator=generator(3, "craft", begin), step_size=2 / 255,
        )  # fmt: skip
        assert torch.equal(found[rows], expected)
    check_images(found, clean, threat_of(spec))
    assert used == 8 and found.dtype == torch.float32


def test_the_last_batch_is_padded() -> None:
    network = Watched()
    full, _ = run(network, attack())
    assert network.sizes == [8] * 15
    # So what an image becomes depends neither on how many follow nor on what they are.
    for count in (8, 9, 15, 18):
        assert torch.equal(run(small_net(), attack(), count)[0], full[:count])


def test_fewer_images_than_a_batch_are_a_batch() -> None:
    network = Watched()
    found, used = run(network, attack(batch=256))
    assert network.sizes == [19] * 5 and len(found) == 19 and used == 256
    assert run(network, attack(), 0)[0].shape == (0, 3, 8, 8)


def test_progress_counts_real_images() -> None:
    told = []
    clean = images(19)
    craft([small_net()], clean, torch.zeros(19).long(), attack(), 0, CPU, lambda *arguments: told.append(arguments))
    assert told == [(8, 19, "images"), (16, 19, "images"), (19, 19, "images")]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_starts_depend_on_seed_and_place_alone(norm: str) -> None:
    budget = {"norm": "l2", "epsilon": 0.5, "step_size": 1e-9} if norm == "l2" else {"step_size": "0"}
    spec = attack(steps=1, **budget)
    starts, _ = run(small_net(), spec)
    again, used = run(Watched(limit=3), spec)
    tolerance = {"linf": 0.0, "l2": 1e-6}[norm]
    assert used == 2 and torch.allclose(again, starts, rtol=0, atol=tolerance)
    assert not torch.allclose(run(small_net(), spec, seed=4)[0], starts, atol=1e-3)
    expected = random_start(images(19)[8:16], threat_of(spec), generator(3, "craft", 8))
    assert torch.allclose(starts[8:16], expected, atol=1e-6)
    assert not torch.allclose((starts - images(19))[:8], (starts - images(19))[8:16], atol=1e-3)


@pytest.mark.parametrize("stop", ["never", "source_fooled"])
def test_short_memory_changes_nothing_but_rounding(stop: str) -> None:
    spec = attack(stop=stop, restarts=2)
    plain, used = run(small_net(), spec)
    split, fitted = run(Watched(limit=5), spec)
    assert (used, fitted) == (8, 4)
    assert torch.allclose(split, plain, atol=1e-6)
    with pytest.raises(DeviceError, match="single image"):
        run(Watched(limit=0), spec)


def test_engine() -> None:
    plain, mixed, last = Watched(), Watched(), Watched()
    reference, _ = run(plain, attack())
    coarse, _ = run(mixed, attack(engine=Engine(precision="bf16")))
    other, _ = run(last, attack(engine=Engine(layout="channels_last")))
    assert plain.kinds == last.kinds == {torch.float32} and mixed.kinds == {torch.bfloat16}
    assert plain.layouts == mixed.layouts == {False} and last.layouts == {True}
    assert not torch.equal(coarse, reference) and float((coarse != reference).float().mean()) < 0.2
    assert torch.allclose(other, reference, atol=1e-6)
    for found in (coarse, other):
        assert found.dtype == torch.float32 and found.is_contiguous()
        check_images(found, images(19), threat_of(attack()))


def test_members_are_attacked_in_evaluation_mode() -> None:
    network = small_net()
    expected, _ = run(network, attack())
    network.train()
    before = network[1].running_mean.clone()
    assert torch.equal(run(network, attack())[0], expected)
    assert torch.equal(network[1].running_mean, before)


@pytest.mark.parametrize("view", ["eot", "ensemble"])
def test_views_of_several_members(view: str) -> None:
    members: list[nn.Module] = [small_net(seed=1), small_net(seed=2)]
    uniform, _ = run(members, attack(view=view))
    assert torch.equal(run(members, attack(view=view), probabilities=[0.5, 0.5])[0], uniform)
    first, _ = run(members[:1], attack())
    assert torch.equal(run(members, attack(view=view), probabilities=[1.0, 0.0])[0], first)
    assert not torch.equal(uniform, first)
    check_images(uniform, images(19), threat_of(attack()))


def test_view_of() -> None:
    members = [small_net(seed=1), small_net(seed=2)]
    assert isinstance(view_of(members, attack(view="eot")), ExpectationView)
    logits = view_of(members, attack(view="ensemble")).logits(images(3))
    probabilities = view_of(members, attack(view="ensemble", average="probabilities"))
    assert isinstance(probabilities, EnsembleView) and not torch.allclose(probabilities.logits(images(3)), logits)
    with pytest.raises(SpecError, match="one network, not of 2"):
        view_of(members, attack())


def test_l2() -> None:
    spec = attack(norm="l2", epsilon=0.5, step_size=0.2)
    found, _ = run(small_net(), spec)
    assert float(distances(found, images(19))[1].max()) == pytest.approx(0.5, abs=1e-5)
    check_images(found, images(19), threat_of(spec))


def test_an_open_step_size_is_refused() -> None:
    with pytest.raises(SpecError, match="step size"):
        run(small_net(), attack(step_size=None))
