"""What a worker keeps between nodes, and the device it works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rstbench.build.foreign import load_model
from rstbench.build.handed_in import HandedIn
from rstbench.data.sources import DataSet, fingerprint, load
from rstbench.errors import DataError, DeviceError
from rstbench.evaluation.files import IMAGES, unpack_images
from rstbench.spec.models import DatasetSpec
from rstbench.store import Store, Value
from rstbench.tickets.files import NetworkFile, read, stored_weights
from rstbench.tickets.weights import LoadWeights

KEPT_IMAGES_BYTES = 256 * 2**20
"""Adversarial images up to this size are kept for the next node: in a transfer matrix, all members judge the same."""
KEPT_NETWORKS = 16
"""Networks that a worker keeps on its device: a switch between six tickets asks each of them six times."""


@dataclass
class Bench:
    """What a worker keeps between nodes: where things are, and what it has loaded last."""

    store: Store
    data_dir: Path | None
    device: torch.device
    handed_in: dict[str, HandedIn] = field(default_factory=dict)
    """By the key of their challenge: images that no node makes."""
    _arrays: dict[str, DataSet] = field(default_factory=dict)
    _networks: dict[tuple[str, str], nn.Module] = field(default_factory=dict)
    _images: tuple[str, Tensor] | None = None

    @property
    def facts(self) -> Path:
        """What the store remembers of data sets, so that folders need not be read as a whole by every worker."""
        return self.store.root / "facts.json"

    def arrays(self, key: str) -> DataSet:
        """The data set of a data node, in memory or on disk, checked against its fingerprint."""
        if key not in self._arrays:
            spec = self.store.value(key).record["spec"]
            arrays = load_checked(spec, self.data_dir, self.facts)
            if len(self._arrays) >= 2:  # data sets are large; a run seldom alternates between more
                self._arrays.pop(next(iter(self._arrays)))
            self._arrays[key] = arrays
        return self._arrays[key]

    @property
    def weights(self) -> LoadWeights:
        """Where trained weights behind tickets come from: the store's train nodes."""
        return stored_weights(self.store)

    def file(self, key: str, checkpoint: str) -> NetworkFile:
        """What a node that optimises has left: a ticket, a pruned network or a dense one, on the CPU."""
        value = self.store.value(key)
        name = f"{checkpoint}.safetensors"
        return read(value.read(name), str(value.directory / name))

    def images(self, value: Value) -> Tensor:
        """The adversarial images of a craft node, float32 (N, C, H, W) on the CPU; whoever asks changes none."""
        if self._images is None or self._images[0] != value.key:
            self._images = None  # its memory is for the next ones
            found = unpack_images(value.read(IMAGES), str(value.directory / IMAGES))
            if found.nbytes > KEPT_IMAGES_BYTES:
                return found
            self._images = value.key, found
        return self._images[1]

    def network(self, key: str, checkpoint: str) -> nn.Module:
        """The network of a node that optimises, or of a model node, in evaluation mode on the device."""
        network = self._networks.pop((key, checkpoint), None)
        if network is None:
            network = self._load(key, checkpoint).to(self.device)
            if len(self._networks) >= KEPT_NETWORKS:
                self._networks.pop(next(iter(self._networks)))
        self._networks[key, checkpoint] = network  # last in line: the one that was not used for longest goes first
        return network

    def _load(self, key: str, checkpoint: str) -> nn.Module:
        value = self.store.value(key)
        if value.record["kind"] == "model":
            return load_model(value.record, self.data_dir)
        return self.file(key, checkpoint).network(self.weights)


Built = tuple[dict[str, Any], dict[str, bytes]]
"""What a builder returns: facts for the record, and files."""


class SavedState:
    """Training state in the store's folder of unfinished work: a `training.Checkpoints`."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key

    def load(self) -> bytes | None:
        return self._store.read_partial(self._key, "state.safetensors")

    def save(self, data: bytes) -> None:
        self._store.write_partial(self._key, "state.safetensors", data)


def load_checked(spec: Mapping[str, Any], data_dir: Path | None, cache: Path | None = None) -> DataSet:
    """The data set of a data node. Raises `DataError` if its fingerprint is no longer the planned one.

    cache: of `data.sources.facts`.
    """
    arrays = load(DatasetSpec.model_validate(spec["load"]), data_dir, cache)
    if fingerprint(arrays) != spec["fingerprint"]:
        raise DataError(
            f"data set {spec['load']['name'] or spec['load']['source']}: the images are no longer those that were "
            "planned with (fingerprint differs); run again, and what depends on them is computed anew"
        )
    return arrays


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
