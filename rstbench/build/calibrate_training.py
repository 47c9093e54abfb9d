"""Seconds of the units of work of trainings and searches: see `build.calibrate`."""

from __future__ import annotations

from contextlib import closing

import torch
from torch import nn

from rstbench.build.bench import Bench
from rstbench.build.fit import model_of, training_data
from rstbench.build.timing import Stopwatch
from rstbench.estimate.breakdown import training_of
from rstbench.networks import build as build_network
from rstbench.networks.init import initialise, theta_digest
from rstbench.networks.spec import ModelSpec
from rstbench.nodes import Node
from rstbench.spec.training import Engine, SearchSpec, TrainingSpec, Validation
from rstbench.store import Store
from rstbench.tickets.checkpoint import checkpoint_bytes
from rstbench.tickets.files import read, stored_weights
from rstbench.tickets.masked import MaskedWeights, magnitude_masks
from rstbench.tickets.search import Scores
from rstbench.tickets.ticket import Ticket, part
from rstbench.tickets.weights import RandomWeights
from rstbench.training import Run, Subject, TrainingData, Weights
from rstbench.training.batches import drawn, steps
from rstbench.training.state import RunState, pack_state

_INIT, _SEED = "kaiming_normal", 0
_RATIO = 0.2
"""What masks keep where a node does not name it: the time of a selection hardly depends on it."""
_ANY = Engine()
"""For what hardly depends on the engine: other nodes need it too, also where the node's own engine is not to be had."""
_LARGE_S = 4.0
"""A step that would take longer is measured at two smaller batches, and continued in a straight line."""


def step_seconds(node: Node, bench: Bench, watch: Stopwatch, batch: int) -> float:
    """Seconds of one optimiser step for each of its `batch` images."""
    run, data = _run(node, bench), training_data(node, bench)
    few = max(batch // 16, 1)
    one = _step(run, data, few, watch)
    if batch > few and one * batch / few > _LARGE_S:
        other = _step(run, data, 2 * few, watch)
        whole = other + (other - one) / few * (batch - 2 * few)
        if whole > _LARGE_S:
            return whole / batch
    return _step(run, data, batch, watch) / batch


def _step(run: Run, data: TrainingData, batch: int, watch: Stopwatch) -> float:
    chosen = steps(_SEED, len(data.images), batch, 0, 2**31)
    with closing(drawn(data, chosen, run.spec.augmentation)) as batches:

        def step() -> None:
            images, labels, random = next(batches)
            run.step(images, labels, run.spec.lr, random)

        return watch.seconds(step)


def validation_seconds(node: Node, bench: Bench, watch: Stopwatch, batch: int) -> float:
    """Seconds of one pass of an image in a validation; a gradient counts as two."""
    run, data = _run(node, bench), training_data(node, bench)
    attack = _until_the_end(run.spec.validation)
    images, labels = data.validation_images, data.validation_labels
    size = min(batch, len(labels))

    def validate(many: int) -> object:
        return run.accuracy(images[slice(0, many)], labels[:many], attack)

    size = watch.affordable(size, validate)
    return watch.seconds(lambda: validate(size)) / (size * (2 * attack.steps + 1))


def _until_the_end(validation: Validation) -> Validation:
    """The same attack on every image to its last step: a network that was never trained would be fooled at once."""
    return validation.model_copy(update={"stop": "never", "images": None})


def make_seconds(node: Node, bench: Bench, watch: Stopwatch, scratch: Store) -> float:
    """Seconds of all that a node does once: data on the device, weights, subject, and files of two checkpoints."""

    def make() -> None:
        training_data(node, bench)
        run = _run(node, bench, _ANY)
        theta_digest(run.subject.network)
        for name in ("one", "other"):
            scratch.write_partial("0" * 64, f"{name}.safetensors", _file(node, run.subject))

    return watch.seconds(make)


def save_seconds(node: Node, bench: Bench, watch: Stopwatch, scratch: Store) -> float:
    """Seconds of saving the state of a training once."""
    run = _run(node, bench, _ANY)
    for variable in run.subject.variables.values():
        run.optimiser.state[variable]["momentum_buffer"] = torch.zeros_like(variable)
    state = RunState(best=run.subject.snapshot())
    return watch.seconds(
        lambda: scratch.write_partial("0" * 64, "state.safetensors", pack_state(state, run.subject, run.optimiser))
    )


def network_seconds(node: Node, bench: Bench, watch: Stopwatch) -> float:
    """Seconds of bringing the network of a node that optimises from its file to the device."""
    data = _file(node, _run(node, bench, _ANY).subject)
    return watch.seconds(lambda: read(data, "calibration").network(stored_weights(bench.store)).to(bench.device))


def random_network(node: Node, seed: int = _SEED) -> nn.Module:
    """A network of the node's architecture, with random weights, on the CPU."""
    network = build_network(model_of(node))
    initialise(network, _INIT, seed)
    return network


def _run(node: Node, bench: Bench, engine: Engine | None = None) -> Run:
    """engine: in place of the node's own."""
    spec = training_of(node)
    spec = spec if engine is None else spec.model_copy(update={"engine": engine})
    network = random_network(node).to(bench.device)
    subject = _subject(node, network, spec)
    subject.refresh()
    return Run(subject, spec, _SEED, bench.device)


def _subject(node: Node, network: nn.Module, spec: TrainingSpec) -> Subject:
    ratio = float(node.spec.get("remaining_ratio", _RATIO))
    if isinstance(spec, SearchSpec):
        return Scores(network, ratio, node.spec["pattern"], spec, _SEED)
    if node.kind == "train":
        return Weights(network)
    return MaskedWeights(network, magnitude_masks(network, ratio))


def _file(node: Node, subject: Subject) -> bytes:
    model, snapshot = model_of(node), subject.snapshot()
    if not isinstance(subject, Scores):
        return checkpoint_bytes(model, snapshot)
    return Ticket(
        model=model,
        weights=RandomWeights(init=_INIT, seed=_SEED),
        remaining_ratio=subject.remaining_ratio,
        pattern=subject.pattern,
        theta_digest=_theta(model),
        masks=part(snapshot, "mask/"),
        buffers=part(snapshot, "buffer/"),
        provenance={},
        parameters=part(snapshot, "parameter/"),
    ).to_bytes()


def _theta(model: ModelSpec) -> str:
    network = build_network(model)
    initialise(network, _INIT, _SEED)
    return theta_digest(network)
