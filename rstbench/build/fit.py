"""Builders of nodes that optimise: dense networks and tickets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rstbench.build.bench import Bench, Built, SavedState
from rstbench.build.provenance import provenance
from rstbench.data.cuts import split
from rstbench.data.tensors import to_device
from rstbench.networks import build as build_network
from rstbench.networks.init import initialise, theta_digest
from rstbench.networks.spec import ModelSpec
from rstbench.nodes import Node
from rstbench.spec.base import canonical_json
from rstbench.spec.models import SearchSpec, TrainingSpec
from rstbench.tickets.checkpoint import checkpoint_bytes
from rstbench.tickets.search import Scores
from rstbench.tickets.ticket import Ticket
from rstbench.training import Outcome, Progress, Run, TrainingData, Weights


def _training_data(node: Node, bench: Bench) -> TrainingData:
    arrays = bench.arrays(node.inputs["data"])
    cut = node.spec["cut"]
    fit, held_out = split(arrays.train_labels, cut["validation_fraction"], cut["validation_seed"])

    def part(rows: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
        labels = torch.from_numpy(arrays.train_labels[rows]).to(bench.device)
        return to_device(arrays.train_images[rows], bench.device), labels

    return TrainingData(*part(fit), *part(held_out))


def _fit(
    node: Node, bench: Bench, progress: Progress, spec: TrainingSpec, subject: Callable[[nn.Module], Weights | Scores]
) -> tuple[Outcome, dict[str, Any], ModelSpec]:
    model = ModelSpec.model_validate_json(canonical_json(node.spec["model"]))
    network = build_network(model)
    initialise(network, node.spec["init"], node.spec["seed"])
    theta = theta_digest(network)  # of the weights as drawn, before a search writes masked ones in their place
    layout = torch.channels_last if spec.engine.layout == "channels_last" else torch.contiguous_format
    network.to(bench.device).to(memory_format=layout)
    run = Run(subject(network), spec, node.spec["seed"], bench.device)
    outcome = run.train(_training_data(node, bench), SavedState(bench.store, node.key), progress)
    facts = {
        "outcome": {
            "best_epoch": outcome.best_epoch,
            "best_validation_accuracy": outcome.best_accuracy,
            "history": outcome.history,
        },
        "theta_digest": theta,
    }
    return outcome, facts, model


def build_train(node: Node, bench: Bench, progress: Progress) -> Built:
    """Weights of a dense network: its best and its last epoch."""
    spec = TrainingSpec.model_validate_json(canonical_json(node.spec["training"]))
    outcome, facts, model = _fit(node, bench, progress, spec, Weights)
    files = {
        "best_on_validation.safetensors": checkpoint_bytes(model, outcome.best),
        "last.safetensors": checkpoint_bytes(model, outcome.last),
    }
    return facts, files


def build_search(node: Node, bench: Bench, progress: Progress) -> Built:
    """One ticket: its best and its last epoch."""
    spec = SearchSpec.model_validate_json(canonical_json(node.spec["training"]))
    ratio, pattern, seed = node.spec["remaining_ratio"], node.spec["pattern"], node.spec["seed"]
    outcome, facts, model = _fit(
        node, bench, progress, spec, lambda network: Scores(network, ratio, pattern, spec.rank, seed)
    )

    def ticket(snapshot: Mapping[str, Tensor], checkpoint: str) -> bytes:
        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): each for name, each in snapshot.items() if name.startswith(prefix)}

        origin = {"search": node.spec["training"], "data": bench.store.value(node.inputs["data"]).record["spec"]}
        return Ticket(
            model=model,
            init=node.spec["init"],
            seed=seed,
            remaining_ratio=ratio,
            pattern=pattern,
            theta_digest=facts["theta_digest"],
            masks=part("mask/"),
            buffers=part("buffer/"),
            provenance={**origin, **provenance(bench.device), "checkpoint": checkpoint, "node": node.key},
        ).to_bytes()

    files = {
        "best_on_validation.safetensors": ticket(outcome.best, "best_on_validation"),
        "last.safetensors": ticket(outcome.last, "last"),
    }
    return facts, files
