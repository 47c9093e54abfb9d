from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rstbench.data.tensors import as_float
from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.spec.training import GATHERED, SearchSpec
from rstbench.tickets.family import Family, search_subject
from rstbench.tickets.search import Scores
from rstbench.training import FamilySubject, Outcome, Run, generator
from rstbench.training.family import Batch, each_ratio, gather
from tests.networks.specs import digits
from tests.training.problem import CPU, Killed, Memory, Notes, data, images, same, settings, subject

RATIOS = (0.1, 0.3, 0.5)


def spec(**changes: Any) -> SearchSpec:
    return settings(family=RATIOS, **changes)


def network(**changes: Any) -> nn.Module:
    made = build(digits("preact_resnet10", width=0.0625, classes=3, **changes))
    initialise(made, "signed_kaiming_constant", 0)
    return made


def family(settings: SearchSpec, **changes: Any) -> Family:
    found = search_subject(network(**changes), None, "element", settings, 0)
    assert isinstance(found, Family)
    return found


def run(settings: SearchSpec, **changes: Any) -> Run:
    return Run(family(settings, **changes), settings, 0, CPU)


def trained(settings: SearchSpec, saved: bytes | None = None) -> Outcome:
    return run(settings).train(data(), Memory(saved), Notes())


def masks_of(snapshot: dict[str, torch.Tensor], ratio: str) -> dict[str, torch.Tensor]:
    prefix = f"{ratio}/mask/"
    return {name.removeprefix(prefix): mask for name, mask in snapshot.items() if name.startswith(prefix)}


def test_only_a_search_of_several_ratios_is_a_family() -> None:
    assert isinstance(family(spec()), FamilySubject)
    single = search_subject(network(), 0.5, "element", settings(), 0)
    assert type(single) is Scores and not isinstance(single, FamilySubject)
    assert not isinstance(subject("weights"), FamilySubject)
    with pytest.raises(ValueError, match="needs a remaining ratio"):
        search_subject(network(), None, "element", settings(), 0)


def test_every_step_draws_its_ratio_from_its_own_generator() -> None:
    mine = family(spec())
    drawn = []
    for step in range(60):
        mine.draw(generator(0, "step", step))
        drawn.append(mine.remaining_ratio)
    assert {ratio: drawn.count(ratio) for ratio in RATIOS}.keys() == set(drawn)
    assert min(drawn.count(ratio) for ratio in RATIOS) > 8
    again = family(spec())
    again.draw(generator(0, "step", 17))
    assert again.remaining_ratio == drawn[17]


@pytest.mark.parametrize("power", [1.0, 0.1])
def test_the_tickets_of_a_family_are_nested_and_have_their_ratios(power: float) -> None:
    outcome = trained(spec(epochs=1, layer_power=power))
    by_ratio = [masks_of(outcome.last, text) for text in ("0.10", "0.30", "0.50")]
    reference = network()
    for smaller, larger in pairwise(by_ratio):
        for name, mask in smaller.items():
            assert bool((larger[name] | ~mask).all())
    for ratio, masks in zip(RATIOS, by_ratio, strict=True):
        alone = Scores(reference, ratio, "element", settings(layer_power=power), 0)
        assert {n: int(m.sum()) for n, m in masks.items()} == {n: int(m.sum()) for n, m in alone.masks().items()}


def test_a_family_in_which_always_one_ratio_is_drawn_learns_what_its_single_search_learns() -> None:
    changes = {"epochs": 1, "inner": {"kind": "none"}}
    mine, alone = family(spec(**changes)), Scores(network(), 0.3, "element", settings(**changes), 0)
    runs = [Run(mine, spec(**changes), 0, CPU), Run(alone, settings(**changes), 0, CPU)]
    mine.draw = lambda noise: mine.choose(0.3)  # type: ignore[method-assign]
    batch, labels = images(12)
    for number in range(3):
        for each in runs:
            each.step(as_float(batch), labels, 0.1, generator(number))
    for name, scores in alone.variables.items():
        assert torch.equal(scores, mine.variables[name]), name


def batches(count: int) -> Iterator[Batch]:
    for number in range(count):
        batch, labels = images(12, seed=number)
        yield as_float(batch), labels, generator("gather", number)


@pytest.mark.parametrize("inner_bn", ["train", "eval"])
@pytest.mark.parametrize("objective", ["ce", "trades"])
def test_gathered_statistics_are_plain_averages_over_the_passes_of_training(inner_bn: str, objective: str) -> None:
    settings = spec(inner={"kind": "pgd", "steps": 2}, inner_bn=inner_bn, objective=objective)
    mine = family(settings)
    seen: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def watch(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            if layer.track_running_stats:
                values = inputs[0].transpose(0, 1).flatten(1)
                seen.setdefault(name, []).append((values.mean(1).detach(), values.var(1).detach()))

        return hook

    norms = {name: layer for name, layer in mine.network.named_modules() if isinstance(layer, _BatchNorm)}
    for name, layer in norms.items():
        layer.register_forward_pre_hook(watch(name))
    gather(mine, settings, mine.network, batches(3))
    loss_passes = 2 if objective == "trades" else 1
    inner_passes = 2 + (objective == "trades") if inner_bn == "train" else 0
    for name, layer in norms.items():
        assert len(seen[name]) == 3 * (loss_passes + inner_passes)
        assert layer.num_batches_tracked == len(seen[name]) and layer.momentum == 0.1 and layer.track_running_stats
        for place, value in enumerate((layer.running_mean, layer.running_var)):
            expected = torch.stack([each[place] for each in seen[name]]).mean(0)
            assert value is not None
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


def test_each_ratio_has_its_own_statistics_and_training_keeps_its_own() -> None:
    settings = spec()
    training = run(settings)
    training.step(as_float(images(12)[0]), images(12)[1], 0.1, generator(0))
    mine = training.subject
    assert isinstance(mine, Family)
    before = {name: value.clone() for name, value in mine.network.named_buffers()}
    passed = list(each_ratio(mine, settings, mine.network, lambda: batches(2)))
    assert passed == list(RATIOS)
    assert all(torch.equal(value, before[name]) for name, value in mine.network.named_buffers())
    taken = mine.snapshot()
    means = [taken[f"{text}/buffer/bn.running_mean"] for text in ("0.10", "0.30", "0.50")]
    assert not torch.equal(means[0], means[1]) and not torch.equal(means[1], means[2])
    kinds = {name.split("/")[1] for name in taken}
    assert kinds == {"mask", "buffer"}
    scaled = family(spec(last_bn_affine=True), last_bn_affine=True)
    scaled.keep()
    assert "0.10/parameter/bn.weight" in scaled.snapshot()


def test_the_best_epoch_has_the_best_mean_over_the_ratios() -> None:
    outcome = trained(spec(epochs=4))
    names = [f"validation_accuracy_{text}" for text in ("0.10", "0.30", "0.50")]
    means = []
    for row in outcome.history:
        assert row["validation_accuracy"] == pytest.approx(sum(row[name] for name in names) / 3)
        means.append(row["validation_accuracy"])
    assert outcome.best_accuracy == max(means)
    assert outcome.best_epoch == 1 + max(index for index, mean in enumerate(means) if mean == max(means))
    assert outcome.best.keys() == outcome.last.keys()
    assert {name.split("/")[0] for name in outcome.last} == {"0.10", "0.30", "0.50"}


@pytest.mark.parametrize("killed_at", [1, 4, 9])
def test_a_family_goes_on_with_the_same_bits(killed_at: int) -> None:
    settings = spec(inner={"kind": "fgsm_rs"})
    whole, memory = trained(settings), Memory()
    with pytest.raises(Killed):  # step 9 is the last one: nothing but the snapshot is left to be made
        run(settings).train(data(), memory, Notes(killed_at))
    resumed = run(settings).train(data(), Memory(memory.state), Notes())
    assert same(whole, resumed)


def test_statistics_come_from_the_same_images_at_every_validation() -> None:
    training = run(spec())
    first, second = (list(training._gathering(data(40))) for _ in range(2))
    assert len(first) == 3 and all(len(batch) == 12 for batch, _, _ in first)  # of 40, in batches of 12
    assert all(torch.equal(one[0], other[0]) for one, other in zip(first, second, strict=True))
    many = data(GATHERED + 500)
    assert sum(len(batch) for batch, _, _ in training._gathering(many)) == GATHERED // 12 * 12


def test_a_family_is_of_several_distinct_ratios() -> None:
    with pytest.raises(ValueError, match="at least two"):
        SearchSpec(family=(0.1,))
    with pytest.raises(ValueError, match="must differ"):
        SearchSpec(family=(0.1, 0.1))
