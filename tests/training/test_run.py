from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rstbench.data.cuts import split
from rstbench.data.sources import load
from rstbench.data.tensors import as_float, to_device
from rstbench.errors import DivergenceError
from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.spec.models import DatasetSpec
from rstbench.spec.training import InnerAttack, SearchSpec, TrainingSpec, Validation
from rstbench.tickets.search import Scores
from rstbench.training import Run, TrainingData, Weights, derive_seed, generator, inner_images
from tests.networks.specs import digits
from tests.training.problem import CPU, Memory, Notes, data, images, run, same, settings, subject, train


@pytest.mark.parametrize("kind", ["scores", "weights"])
def test_equal_runs_give_equal_bits_whatever_the_global_generators_do(kind: str) -> None:
    first = train(settings(), kind)
    torch.manual_seed(99)
    np.random.seed(99)
    assert same(first, train(settings(), kind))
    assert not same(first, run(settings(), kind, seed=1).train(data(), Memory(), Notes()))


def test_validation_takes_no_random_number_from_training() -> None:
    often, seldom = train(settings(epochs=4)), train(settings(epochs=4, validation={"every": 3, "steps": 1}))
    assert all(torch.equal(value, seldom.last[name]) for name, value in often.last.items())
    assert [row["loss"] for row in often.history] == [row["loss"] for row in seldom.history]
    # The last epoch is validated whatever `every` says.
    assert ["validation_accuracy" in row for row in seldom.history] == [False, False, True, True]
    assert [row["epoch"] for row in often.history] == [1, 2, 3, 4]


def test_of_equally_good_epochs_the_latest_is_best() -> None:
    scores = iter([50.0, 70.0, 60.0, 70.0, 10.0])
    training = run(settings(epochs=5))
    training.accuracy = lambda *_: next(scores)  # type: ignore[method-assign]
    outcome = training.train(data(), Memory(), Notes())
    assert (outcome.best_epoch, outcome.best_accuracy) == (4, 70.0)


def test_best_is_the_state_after_that_epoch() -> None:
    spec = settings(epochs=2, lr_schedule={"kind": "constant"})
    training = run(spec)
    real, fake = training.accuracy, iter([50.0, 40.0])

    def first_is_best(*images_and_attack: Any) -> float:
        real(*images_and_attack)
        return next(fake)

    training.accuracy = first_is_best  # type: ignore[method-assign]
    outcome = training.train(data(), Memory(), Notes())
    first_epoch = train(spec.model_copy(update={"epochs": 1})).last
    assert outcome.best_epoch == 1
    assert all(torch.equal(outcome.best[name], value) for name, value in first_epoch.items())
    assert any(not torch.equal(outcome.last[name], value) for name, value in first_epoch.items())


def test_the_last_incomplete_batch_is_left_out() -> None:
    told = Notes()
    run(settings(epochs=2, batch=12)).train(data(40), Memory(), told)
    assert [done for done, _, _ in told.told] == [1, 2, 3, 4, 5, 6]
    assert {total for _, total, _ in told.told} == {6}
    assert [note for _, _, note in told.told] == ["epoch 1/2"] * 3 + ["epoch 2/2"] * 3


def test_every_epoch_shows_every_image_once_in_an_order_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    streams: set[int] = set()
    numbered = TrainingData(torch.arange(24, dtype=torch.uint8).view(24, 1, 1, 1).expand(24, 1, 8, 8).clone(),
                            torch.zeros(24, dtype=torch.int64), *images(3))  # fmt: skip
    training = run(settings(epochs=3, batch=8, augmentation={"padding": 0, "flip": False}))
    step = training.step

    def watched(batch: Tensor, labels: Tensor, lr: float, noise: torch.Generator) -> Tensor:
        seen.append((batch[:, 0, 0, 0] * 255).round().int().tolist())
        streams.add(noise.initial_seed())
        return step(batch, labels, lr, noise)

    monkeypatch.setattr(training, "step", watched)
    training.train(numbered, Memory(), Notes())
    epochs = [[image for batch in seen[start : start + 3] for image in batch] for start in (0, 3, 6)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(24))] * 3
    assert epochs[0] != epochs[1] != epochs[2] and list(range(24)) not in epochs
    assert len(streams) == 9  # no step draws what another drew


def test_a_batch_larger_than_the_data_is_all_of_the_data() -> None:
    outcome = train(settings(batch=256), on=data(10))
    assert same(outcome, train(settings(batch=10), on=data(10)))
    assert len(outcome.history) == 3


@pytest.mark.parametrize("kind", ["scores", "weights"])
def test_a_loss_that_is_not_finite_ends_the_run(kind: str) -> None:
    with pytest.raises(DivergenceError, match=r"not finite at step \d+; a smaller learning rate \(now 1e\+30\)"):
        train(settings(lr=1e30, weight_decay=1e10, epochs=60), kind)


def test_a_last_step_that_spoils_the_result_ends_the_run() -> None:
    spec = settings(epochs=1, batch=40, lr=1e38, lr_schedule={"kind": "constant"}, weight_decay=1e10)
    with pytest.raises(DivergenceError, match="the result is not finite at step 1"):
        train(spec, "weights")


def _tracked(training: Run) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in training.subject.network.named_buffers() if "running" in name}


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_inner_steps_move_running_statistics_only_in_training_mode(mode: str) -> None:
    batch, labels = images(12)
    with_inner = run(settings(inner_bn=mode, inner={"kind": "pgd", "epsilon": "0", "steps": 3}))
    without = run(settings(inner={"kind": "none"}))
    for training in (with_inner, without):
        training.step(as_float(batch), labels, 0.1, generator(0))
    one, other = _tracked(with_inner), _tracked(without)
    # With epsilon 0 the images are the same, so what differs is what the inner passes did.
    assert all(torch.equal(value, other[name]) for name, value in one.items()) == (mode == "eval")


def test_inner_attacks_start_and_step_as_their_names_say() -> None:
    clean, labels = torch.full((4, 1, 8, 8), 0.5), torch.zeros(4, dtype=torch.int64)
    weights = torch.linspace(-1, 1, 64).view(1, 64)
    asked: list[Tensor] = []

    def forward(inputs: Tensor) -> Tensor:
        asked.append(inputs.detach().clone())
        return torch.cat([-inputs.flatten(1) @ weights.t(), inputs.flatten(1) @ weights.t()], 1)

    def attacked(kind: str, **changes: object) -> Tensor:
        asked.clear()
        return inner_images(forward, clean, labels, InnerAttack(kind=kind, **changes), generator(0))

    away = weights.sign().view(1, 1, 8, 8)
    assert attacked("none") is clean and asked == []
    torch.testing.assert_close(attacked("fgsm"), clean + 8 / 255 * away, rtol=0, atol=1e-6)
    assert len(asked) == 1 and torch.equal(asked[0], clean)
    result = attacked("fgsm_rs")
    start = asked[0]
    assert len(asked) == 1 and 0.5 * 8 / 255 < (start - clean).abs().max() <= 8 / 255 + 1e-6
    torch.testing.assert_close(
        result, clean + (start - clean + 10 / 255 * away).clamp(-8 / 255, 8 / 255), rtol=0, atol=1e-6
    )
    result = attacked("pgd", steps=2)
    assert len(asked) == 2 and torch.equal(asked[0], start)
    torch.testing.assert_close(
        result, clean + (start - clean + 4 / 255 * away).clamp(-8 / 255, 8 / 255), rtol=0, atol=1e-6
    )
    result = attacked("fgsm", epsilon="1", step_size="1")
    assert result.min() >= 0 and result.max() <= 1


def test_accuracy_is_under_the_validation_attack_in_evaluation_mode() -> None:
    training = run(settings())
    batch, labels = images(30)
    before = _tracked(training)
    clean = training.accuracy(batch, labels, Validation(epsilon="0"))
    training.subject.network.eval()
    training.subject.require_gradients(False)
    expected = (training.subject.network(as_float(batch)).argmax(1) == labels).double().mean()
    assert clean == pytest.approx(100 * float(expected))
    assert training.accuracy(batch, labels, Validation(epsilon="1", steps=5)) <= clean
    assert all(torch.equal(value, before[name]) for name, value in _tracked(training).items())
    natural = run(settings(inner={"kind": "none"}))  # what was trained without an attack is validated without one
    assert natural.accuracy(batch, labels, Validation()) == clean
    assert training.accuracy(batch[:0], labels[:0], Validation()) == 0.0


@pytest.mark.parametrize("kind", ["scores", "weights"])
def test_bfloat16_learns(kind: str) -> None:
    spec = settings(epochs=8, inner={"kind": "fgsm_rs", "epsilon": "4/255"}, engine={"precision": "bf16"})
    outcome = train(spec, kind)
    losses = [row["loss"] for row in outcome.history]
    assert losses[-1] < 0.7 * losses[0]
    assert outcome.best_accuracy > 60
    full = train(spec.model_copy(update={"engine": settings().engine}), kind)
    assert losses != [row["loss"] for row in full.history]  # autocast was on
    assert losses[0] == pytest.approx(full.history[0]["loss"], rel=0.2)


def test_dense_weights_move_by_sgd_and_inner_attacks_leave_no_gradient() -> None:
    training = run(settings(inner={"kind": "none"}), "weights")
    network = copy.deepcopy(training.subject.network)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for number in range(3):
        batch, labels = images(12, seed=number)
        training.step(as_float(batch), labels, 0.1, generator(number))
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(as_float(batch)), labels, reduction="none").mean().backward()
        optimiser.step()
    mine = dict(training.subject.network.named_parameters())
    assert all(torch.equal(value, mine[name]) for name, value in network.named_parameters())


def test_a_snapshot_of_weights_is_a_contiguous_copy() -> None:
    mine = subject("weights")
    mine.network.to(memory_format=torch.channels_last)
    taken = mine.snapshot()
    assert all(value.is_contiguous() for value in taken.values())
    with torch.no_grad():
        for value in mine.network.parameters():
            value.zero_()
    assert any(bool(value.any()) for name, value in taken.items() if "conv" in name)
    assert taken.keys() == mine.network.state_dict().keys()


def test_seeds_are_the_same_everywhere() -> None:
    assert derive_seed(0, "step", 12) == 8658502703948105935
    assert derive_seed(0, "step", 12) != derive_seed(0, "step", 13)
    assert all(0 <= derive_seed(number) < 2**63 for number in range(100))
    assert torch.equal(torch.rand(3, generator=generator(1, "a")), torch.rand(3, generator=generator(1, "a")))


@pytest.mark.parametrize("kind", ["scores", "weights"])
def test_a_short_run_on_the_digits_is_well_above_chance(kind: str) -> None:
    arrays = load(DatasetSpec(source="digits"), None)
    fit, held_out = split(arrays.train_labels, 0.1, 0)
    training_data = TrainingData(
        to_device(arrays.train_images[fit], CPU), torch.from_numpy(arrays.train_labels[fit]),
        to_device(arrays.train_images[held_out], CPU), torch.from_numpy(arrays.train_labels[held_out]),
    )  # fmt: skip
    network = build(digits("preact_resnet10", width=0.125, classes=arrays.classes))
    initialise(network, "signed_kaiming_constant", 0)
    mine = Weights(network) if kind == "weights" else Scores(network, 0.5, "element", SearchSpec(), 0)
    spec = TrainingSpec(
        epochs=4, batch=64, lr=0.1, lr_schedule={"kind": "cosine"}, augmentation={"padding": 1, "flip": False},
        inner={"kind": "fgsm_rs", "epsilon": "4/255"}, validation={"every": 4},
    )  # fmt: skip
    training = Run(mine, spec, 0, CPU)
    outcome = training.train(training_data, Memory(), Notes())
    test, labels = to_device(arrays.test_images, CPU), torch.from_numpy(arrays.test_labels)
    assert training.accuracy(test, labels, Validation(epsilon="0")) > 60  # chance is 10
    assert training.accuracy(test, labels, Validation(epsilon="4/255", steps=5)) > 40
    assert outcome.best_accuracy > 40
