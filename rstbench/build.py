"""Node kind -> builder: the one module that knows every room below it.

A builder reads its inputs from the store, computes, and writes one value. It never writes anything else, so a killed
builder leaves nothing but the saved state of its training.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rstbench import __version__
from rstbench.data.cuts import split, stratified_subset
from rstbench.data.sources import Arrays, fingerprint, load
from rstbench.data.tensors import as_float, to_device
from rstbench.errors import DataError, DeviceError
from rstbench.evaluation.batches import out_of_memory
from rstbench.evaluation.craft import craft, threat_of
from rstbench.evaluation.files import IMAGES, SAMPLES, pack_images, pack_samples, unpack_images, unpack_samples
from rstbench.evaluation.judge import check_images, predict
from rstbench.networks import build as build_network
from rstbench.networks.init import initialise, theta_digest
from rstbench.networks.spec import ModelSpec
from rstbench.plan import Node
from rstbench.spec.base import canonical_json
from rstbench.spec.models import DatasetSpec, PgdSpec, SearchSpec, TrainingSpec
from rstbench.store import Store, Value
from rstbench.tickets.checkpoint import checkpoint_bytes, checkpoint_network
from rstbench.tickets.search import Scores
from rstbench.tickets.ticket import Ticket, read_ticket
from rstbench.training import Outcome, Progress, Run, TrainingData, Weights, derive_seed

SUBSET_SEED = 0
"""Seed of the choice of test images where an attack runs on fewer than all."""

KEPT_NETWORKS = 16
"""Networks that a worker keeps on its device: a switch between six tickets asks each of them six times."""


@dataclass
class Bench:
    """What a worker keeps between nodes: where things are, and what it has loaded last."""

    store: Store
    data_dir: Path | None
    device: torch.device
    _arrays: dict[str, Arrays] = field(default_factory=dict)
    _networks: dict[tuple[str, str], nn.Module] = field(default_factory=dict)

    def arrays(self, key: str) -> Arrays:
        """The data set of a data node, checked against its fingerprint."""
        if key not in self._arrays:
            spec = self.store.value(key).record["spec"]
            arrays = _load_checked(spec, self.data_dir)
            if len(self._arrays) >= 2:  # data sets are large; a run seldom alternates between more
                self._arrays.pop(next(iter(self._arrays)))
            self._arrays[key] = arrays
        return self._arrays[key]

    def network(self, key: str, checkpoint: str) -> nn.Module:
        """The network a train or search node left, in evaluation mode on the device."""
        network = self._networks.pop((key, checkpoint), None)
        if network is None:
            value = self.store.value(key)
            name = f"{checkpoint}.safetensors"
            data, where = value.read(name), str(value.directory / name)
            is_ticket = value.record["kind"] == "search"
            network = read_ticket(data, where).network() if is_ticket else checkpoint_network(data, where)
            network.to(self.device)
            if len(self._networks) >= KEPT_NETWORKS:
                self._networks.pop(next(iter(self._networks)))
        self._networks[key, checkpoint] = network  # last in line: the one that was not used for longest goes first
        return network


def run_node(node: Node, bench: Bench, progress: Progress) -> Value:
    """Compute one node and store its value; if the value is there by now, give that back.

    Raises an error of the `RstbenchError` tree for what a user can cause.
    """
    with bench.store.lock(node.key):
        if bench.store.has(node.key):
            return bench.store.value(node.key)
        torch.set_num_threads(_threads(node))
        started = time.monotonic()
        try:
            facts, files = _BUILDERS[node.kind](node, bench, progress)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
            raise DeviceError(f"out of memory; a smaller `batch` or a larger device would help ({reason})") from error
        record = {
            "kind": node.kind,
            "title": node.title,
            "spec": node.spec,
            "inputs": node.inputs,
            "wall_seconds": round(time.monotonic() - started, 3),
            "provenance": provenance(bench.device),
            **facts,
        }
        return bench.store.write(node.key, record, files)


Built = tuple[dict[str, Any], dict[str, bytes]]


def _threads(node: Node) -> int:
    spec: Mapping[str, Any] = node.spec.get("training") or node.spec.get("attack") or {}
    return int(spec.get("engine", {}).get("threads") or node.spec.get("threads") or 1)


@lru_cache(maxsize=4)
def provenance(device: torch.device) -> dict[str, str]:
    """Versions and hardware behind a value: shown beside results, never part of a key."""
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    packages = {name: version(name) for name in ("torch", "torchvision", "numpy")}
    return {"rstbench": __version__, "python": platform.python_version(), "hardware": hardware, **packages}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _load_checked(spec: Mapping[str, Any], data_dir: Path | None) -> Arrays:
    arrays = load(DatasetSpec.model_validate(spec["load"]), data_dir)
    if fingerprint(arrays) != spec["fingerprint"]:
        raise DataError(
            f"data set {spec['load']['name'] or spec['load']['source']}: the images are no longer those that were "
            "planned with (fingerprint differs); run again, and what depends on them is computed anew"
        )
    return arrays


def _build_data(node: Node, bench: Bench, progress: Progress) -> Built:
    arrays = _load_checked(node.spec, bench.data_dir)
    sizes = {"train_images": len(arrays.train_images), "test_images": len(arrays.test_images)}
    return {"notes": list(arrays.notes), "classes": arrays.classes, **sizes}, {}


class _SavedState:
    """Training state in the store's folder of unfinished work: a `training.Checkpoints`."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key

    def load(self) -> bytes | None:
        return self._store.read_partial(self._key, "state.safetensors")

    def save(self, data: bytes) -> None:
        self._store.write_partial(self._key, "state.safetensors", data)


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
    outcome = run.train(_training_data(node, bench), _SavedState(bench.store, node.key), progress)
    facts = {
        "outcome": {
            "best_epoch": outcome.best_epoch,
            "best_validation_accuracy": outcome.best_accuracy,
            "history": outcome.history,
        },
        "theta_digest": theta,
    }
    return outcome, facts, model


def _build_train(node: Node, bench: Bench, progress: Progress) -> Built:
    spec = TrainingSpec.model_validate_json(canonical_json(node.spec["training"]))
    outcome, facts, model = _fit(node, bench, progress, spec, Weights)
    files = {
        "best_on_validation.safetensors": checkpoint_bytes(model, outcome.best),
        "last.safetensors": checkpoint_bytes(model, outcome.last),
    }
    return facts, files


def _build_search(node: Node, bench: Bench, progress: Progress) -> Built:
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


def _test_images(arrays: Arrays, samples: int | None) -> tuple[np.ndarray[Any, Any], Tensor, Tensor]:
    rows = stratified_subset(arrays.test_labels, samples or len(arrays.test_labels), SUBSET_SEED)
    clean = as_float(to_device(arrays.test_images[rows], torch.device("cpu")))
    return rows, clean, torch.from_numpy(arrays.test_labels[rows])


def _build_craft(node: Node, bench: Bench, progress: Progress) -> Built:
    spec = PgdSpec.model_validate_json(canonical_json(node.spec["attack"]))
    rows, clean, labels = _test_images(bench.arrays(node.inputs["data"]), spec.samples)
    roles = sorted((role for role in node.inputs if role != "data"), key=lambda role: int(role.split("_")[1]))
    members = [bench.network(node.inputs[role], node.spec["checkpoint"]) for role in roles]
    seed = derive_seed("craft", node.spec["seed"])
    probabilities = node.spec.get("probabilities")
    images, batch = craft(members, clean, labels, spec, seed, bench.device, progress, probabilities)
    linf, l2 = check_images(images, clean, threat_of(spec))
    columns = {"index": rows, "label": labels.numpy(), "linf": linf.numpy(), "l2": l2.numpy()}
    return {"flags": _batch_flags(batch, spec.batch)}, {IMAGES: pack_images(images), SAMPLES: pack_samples(columns)}


def _build_predict(node: Node, bench: Bench, progress: Progress) -> Built:
    source = bench.store.value(node.inputs["images"])
    if source.record["kind"] == "data":
        rows, images, labels_tensor = _test_images(bench.arrays(source.key), node.spec["samples"])
        labels = labels_tensor.numpy()
    else:
        images = unpack_images(source.read(IMAGES), str(source.directory / IMAGES))
        samples = unpack_samples(source.read(SAMPLES), str(source.directory / SAMPLES))
        rows, labels = samples["index"], samples["label"]
    network = bench.network(node.inputs["target"], node.spec["checkpoint"])
    predictions, batch = predict(network, images, node.spec["batch"], progress)
    columns = {"index": rows, "label": labels, "prediction": predictions.numpy()}
    return {"flags": _batch_flags(batch, node.spec["batch"])}, {SAMPLES: pack_samples(columns)}


def _batch_flags(used: int, wanted: int) -> list[str]:
    return [] if used >= wanted else [f"batch:halved_to_{used}"]


_BUILDERS: dict[str, Callable[[Node, Bench, Progress], Built]] = {
    "data": _build_data,
    "train": _build_train,
    "search": _build_search,
    "craft": _build_craft,
    "predict": _build_predict,
}


def choose_device(name: str | None) -> torch.device:
    """The device to run on: as named, else the first GPU, else the CPU. Raises `DeviceError` if it is not there."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"device {name!r} is not available here ({str(error).splitlines()[0]})") from error
    return device
