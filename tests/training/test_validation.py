"""Cheaper validation: fewer images, images that rest, folded batch norm."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rstbench.build.bench import Bench
from rstbench.build.fit import training_data
from rstbench.data.cuts import split
from rstbench.data.sources import load
from rstbench.nodes import Node
from rstbench.spec.models import DatasetSpec
from rstbench.spec.training import SearchSpec, Validation
from rstbench.training import Run, TrainingData
from tests.training.problem import CPU, Killed, Memory, Notes, data, images, run, same, settings, train

ATTACK: dict[str, Any] = {"epsilon": "60/255", "steps": 4}


@cache
def _trained() -> Run:
    """A search that has learned something, and loses some of it under attack."""
    training = run(settings(epochs=6, lr_schedule={"kind": "constant"}))
    training.train(TrainingData(*images(96), *images(9, seed=1)), Memory(), Notes())
    return training


def test_folding_finds_the_same_accuracy() -> None:
    batch, labels = images(90, seed=2)
    for stop in ("never", "source_fooled"):
        plain, folded = (Validation(**ATTACK, stop=stop, folding=folding) for folding in (False, True))
        expected = _trained().accuracy(batch, labels, plain)
        assert 5 < expected < 95
        assert _trained().accuracy(batch, labels, folded) == pytest.approx(expected, abs=1.2)  # one image of ninety


def test_what_rests_stays_wrong_and_costs_no_more_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, labels = images(90, seed=2)
    asked: dict[str, int] = {}
    found = {}
    for stop in ("never", "source_fooled"):
        training = _trained()
        count = [0]
        forward = training.subject.network.forward

        def counted(inputs: torch.Tensor, forward: Any = forward, count: list[int] = count) -> torch.Tensor:
            count[0] += len(inputs)
            answer: torch.Tensor = forward(inputs)
            return answer

        with monkeypatch.context() as patched:
            patched.setattr(training.subject.network, "forward", counted)
            found[stop] = training.accuracy(batch, labels, Validation(**ATTACK, stop=stop))
        asked[stop] = count[0]
    assert asked["never"] == 90 * 5
    assert 90 * 2 < asked["source_fooled"] < asked["never"]
    assert found["source_fooled"] <= found["never"] + 1.2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_folding_changes_nothing_about_the_training(precision: str) -> None:
    engine = {"precision": precision, "layout": "channels_last"}
    plain = train(settings(engine=engine))
    folded = train(settings(engine=engine, validation={"steps": 2, "folding": True}))
    assert all(torch.equal(value, folded.last[name]) for name, value in plain.last.items())
    assert [row["loss"] for row in plain.history] == [row["loss"] for row in folded.history]


def test_a_family_is_validated_in_the_same_ways() -> None:
    from rstbench.networks import build
    from rstbench.networks.init import initialise
    from rstbench.tickets.family import search_subject
    from tests.networks.specs import digits

    outcomes = []
    for extra in ({}, {"folding": True}):
        spec = settings(epochs=2, family=(0.3, 0.6), validation={"steps": 2, **extra})
        network = build(digits("preact_resnet10", width=0.0625, classes=3))
        initialise(network, "signed_kaiming_constant", 0)
        training = Run(search_subject(network, None, "element", spec, 0), spec, 0, CPU)
        outcomes.append(training.train(TrainingData(*images(40), *images(30, seed=1)), Memory(), Notes()))
    assert all(torch.equal(value, outcomes[1].last[name]) for name, value in outcomes[0].last.items())
    for one, other in zip(outcomes[0].history, outcomes[1].history, strict=True):
        assert one == pytest.approx(other, abs=3.4)  # one image of thirty
    assert outcomes[0].history[-1].keys() >= {"validation_accuracy_0.30", "validation_accuracy_0.60"}


def _part(validated: int | None) -> tuple[TrainingData, NDArray[np.int64]]:
    arrays = load(DatasetSpec(source="digits"), None)
    node = SimpleNamespace(inputs={"data": "key"}, spec={"cut": {"validation_fraction": 0.1, "validation_seed": 3}})
    bench = SimpleNamespace(arrays=lambda key: arrays, device=CPU)
    _, held_out = split(arrays.train_labels, 0.1, 3)
    return training_data(cast(Node, node), cast(Bench, bench), validated), arrays.train_labels[held_out]


def test_fewer_images_are_a_choice_that_stays_in_proportion_to_classes() -> None:
    (whole, labels), (some, _), (again, _) = _part(None), _part(40), _part(40)
    assert isinstance(whole.validation_images, torch.Tensor) and isinstance(some.validation_images, torch.Tensor)
    assert (
        len(whole.validation_labels) == len(labels) > len(some.validation_images) == len(some.validation_labels) == 40
    )
    assert torch.equal(some.validation_images, again.validation_images)  # type: ignore[arg-type]
    assert np.bincount(some.validation_labels.numpy(), minlength=10).tolist() == [4] * 10
    known = {image.numpy().tobytes() for image in whole.validation_images}
    assert all(image.numpy().tobytes() in known for image in some.validation_images)
    assert torch.equal(whole.images, some.images)  # type: ignore[arg-type]
    assert len(_part(10**6)[0].validation_labels) == len(labels)


def test_a_search_that_does_not_ask_for_it_keeps_its_key() -> None:
    assert SearchSpec().written()["validation"].keys() == {"every", "steps", "epsilon"}
    asked = SearchSpec(validation={"images": 100, "stop": "source_fooled", "folding": True}).written()["validation"]
    assert (asked["images"], asked["stop"], asked["folding"]) == (100, "source_fooled", True)


def test_what_is_resumed_validates_as_what_was_not() -> None:
    spec = settings(validation={"steps": 2, "stop": "source_fooled", "folding": True})
    memory = Memory()
    with pytest.raises(Killed):
        run(spec).train(data(), memory, Notes(kill_at=5))
    assert same(train(spec, saved=memory.state), train(spec))
