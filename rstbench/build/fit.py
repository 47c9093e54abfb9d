"""What all builders that optimise share, and the builder of dense networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rstbench.build.bench import Bench, Built, SavedState
from rstbench.build.provenance import provenance
from rstbench.data.cuts import split, stratified_subset
from rstbench.data.sources import Folder
from rstbench.data.streamed import StreamedImages
from rstbench.data.tensors import to_device
from rstbench.networks import build as build_network
from rstbench.networks.init import initialise, theta_digest
from rstbench.networks.spec import ModelSpec
from rstbench.nodes import Node
from rstbench.spec.base import canonical_json
from rstbench.spec.training import TrainingSpec
from rstbench.tickets.checkpoint import checkpoint_bytes
from rstbench.training import Outcome, Progress, Run, Subject, TrainingData, Weights


def training_data(node: Node, bench: Bench, validated: int | None = None) -> TrainingData:
    """The training and the validation part of a node that optimises; of the latter `validated` images, None: all."""
    data = bench.arrays(node.inputs["data"])
    cut = node.spec["cut"]
    fit, held_out = split(data.train_labels, cut["validation_fraction"], cut["validation_seed"])
    if validated is not None:
        held_out = held_out[stratified_subset(data.train_labels[held_out], validated, cut["validation_seed"])]

    def part(rows: NDArray[np.int64]) -> tuple[Tensor | StreamedImages, Tensor]:
        labels = torch.from_numpy(data.train_labels[rows]).to(bench.device)
        if isinstance(data, Folder):
            return StreamedImages(data.train_images, rows, bench.device), labels
        return to_device(data.train_images[rows], bench.device), labels

    return TrainingData(*part(fit), *part(held_out))


CHECKPOINTS = ("best_on_validation", "last")
"""What every run leaves: the epoch that was best on the validation part, and the last one."""


def model_of(node: Node) -> ModelSpec:
    """The network of a node that optimises."""
    return ModelSpec.model_validate_json(canonical_json(node.spec["model"]))


def fit(
    node: Node,
    bench: Bench,
    progress: Progress,
    spec: TrainingSpec,
    network: nn.Module,
    subject: Callable[[nn.Module], Subject],
    seed: int,
) -> tuple[Outcome, dict[str, Any]]:
    """Optimise the subject of a network whose weights are written, from saved state if there is some.

    seed: of order and draws. Returns the outcome and facts for the record.
    """
    theta = theta_digest(network)  # before a search writes masked weights in their place
    layout = torch.channels_last if spec.engine.layout == "channels_last" else torch.contiguous_format
    network.to(bench.device).to(memory_format=layout)
    run = Run(subject(network), spec, seed, bench.device)
    data = training_data(node, bench, spec.validation.images)
    outcome = run.train(data, SavedState(bench.store, node.key), progress)
    facts = {
        "outcome": {
            "best_epoch": outcome.best_epoch,
            "best_validation_accuracy": outcome.best_accuracy,
            "history": outcome.history,
        },
        "theta_digest": theta,
    }
    return outcome, facts


def snapshots(outcome: Outcome) -> dict[str, Mapping[str, Tensor]]:
    """What a run leaves, by the names in `CHECKPOINTS`."""
    return dict(zip(CHECKPOINTS, (outcome.best, outcome.last), strict=True))


def origin(node: Node, bench: Bench, checkpoint: str) -> dict[str, Any]:
    """What every file of a node that optimises says of where it comes from."""
    data = bench.store.value(node.inputs["data"]).record["spec"]
    return {"data": data, **provenance(bench.device), "checkpoint": checkpoint, "node": node.key}


def build_train(node: Node, bench: Bench, progress: Progress) -> Built:
    """Weights of a dense network: its best and its last epoch."""
    spec = TrainingSpec.model_validate_json(canonical_json(node.spec["training"]))
    model, seed = model_of(node), node.spec["seed"]
    network = build_network(model)
    initialise(network, node.spec["init"], seed)
    outcome, facts = fit(node, bench, progress, spec, network, Weights, seed)
    files = {f"{name}.safetensors": checkpoint_bytes(model, state) for name, state in snapshots(outcome).items()}
    return facts, files
