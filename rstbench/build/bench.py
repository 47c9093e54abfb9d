"""What a worker keeps between nodes, and the device it works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rstbench.build.foreign import load_model
from rstbench.data.sources import Arrays, fingerprint, load
from rstbench.errors import DataError, DeviceError
from rstbench.spec.models import DatasetSpec
from rstbench.store import Store
from rstbench.tickets.checkpoint import checkpoint_network
from rstbench.tickets.ticket import read_ticket

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
            arrays = load_checked(spec, self.data_dir)
            if len(self._arrays) >= 2:  # data sets are large; a run seldom alternates between more
                self._arrays.pop(next(iter(self._arrays)))
            self._arrays[key] = arrays
        return self._arrays[key]

    def network(self, key: str, checkpoint: str) -> nn.Module:
        """The network of a train, search or model node, in evaluation mode on the device."""
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
        name = f"{checkpoint}.safetensors"
        data, where = value.read(name), str(value.directory / name)
        is_ticket = value.record["kind"] == "search"
        return read_ticket(data, where).network() if is_ticket else checkpoint_network(data, where)


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


def load_checked(spec: Mapping[str, Any], data_dir: Path | None) -> Arrays:
    """The data set of a data node. Raises `DataError` if its fingerprint is no longer the planned one."""
    arrays = load(DatasetSpec.model_validate(spec["load"]), data_dir)
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
