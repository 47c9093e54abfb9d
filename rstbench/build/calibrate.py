"""Seconds of the units of work that plans are made of, measured on this machine with the code that ships.

Each unit is done for about a second, on networks of the right architecture with random weights: what a pass takes
does not depend on them, nor does a mask. Attacks run a few of their steps under a budget so small that every image
still stands. Where a whole batch would take more than seconds, fewer images are measured. Not in the rates: what
happens once in a node and is small beside it (folding a network, recording CUDA graphs), and compiling.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rstbench.build import run_node
from rstbench.build.bench import Bench, load_checked
from rstbench.build.calibrate_evaluation import (
    attack_seconds,
    clean_seconds,
    pack_seconds,
    predict_seconds,
    unpack_seconds,
)
from rstbench.build.calibrate_training import (
    make_seconds,
    network_seconds,
    random_network,
    save_seconds,
    step_seconds,
    validation_seconds,
)
from rstbench.build.foreign import loaded, weights_digest
from rstbench.build.provenance import provenance
from rstbench.build.timing import Stopwatch
from rstbench.data.sources import DataSet
from rstbench.errors import DeviceError, RunError
from rstbench.estimate.breakdown import Breakdown
from rstbench.estimate.machine import Machine, cores
from rstbench.estimate.units import WORKER, Unit
from rstbench.nodes import NETWORKS, Node
from rstbench.store import Store

_PACKED = 512
_FILES = {"samples.parquet": bytes(4096)}
"""What stands for the small files of a value."""


def machine_of(device: torch.device) -> Machine:
    """This machine, as its calibration and the records of its nodes name it."""
    known = provenance(device)
    return Machine(known["hardware"], device.type, cores(), known["torch"])


def needed_units(nodes: Mapping[str, Node]) -> dict[Unit, str]:
    """The distinct units of work of nodes, and the node that each is measured with."""
    breakdown = Breakdown(nodes)
    found: dict[Unit, str] = {WORKER: ""}
    for node in nodes.values():
        for work in breakdown.of(node):
            found.setdefault(work.unit, work.about)
    return found


def measured(nodes: Mapping[str, Node], bench: Bench, watch: Stopwatch) -> Iterator[tuple[Unit, float | DeviceError]]:
    """Measure every unit of the nodes; yields it with its seconds, or with what this machine lacks for it.

    Data nodes are computed and stored, as a run would; all else stays out of the store. Raises `DataError` where data
    are missing or have changed, and what networks from elsewhere raise.
    """
    for node in nodes.values():
        if node.kind == "data":
            run_node(node, bench, _silent)
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory(dir=bench.store.root / "tmp", prefix="calibration-") as folder:
        scratch = Store(Path(folder))
        scratch.prepare()
        rates = _Rates(nodes, bench, scratch, watch)
        try:
            for unit, about in needed_units(nodes).items():
                fields = unit.fields
                torch.set_num_threads(int(fields.get("engine", fields).get("threads", 1)))
                found: float | DeviceError
                try:
                    found = rates.seconds(unit.what, fields, about)
                except DeviceError as error:
                    found = error
                yield unit, found
        finally:
            torch.set_num_threads(threads)


@dataclass
class _Rates:
    nodes: Mapping[str, Node]
    bench: Bench
    scratch: Store
    watch: Stopwatch

    def seconds(self, what: str, fields: Mapping[str, Any], about: str) -> float:
        """Seconds of one unit. about: key of the node that it is measured with."""
        bench, watch, scratch = self.bench, self.watch, self.scratch
        match what:
            case "worker":
                return Stopwatch(bench.device, watch.least_s).seconds(_started)  # the time of another process
            case "value":
                numbers = count()
                return watch.seconds(lambda: scratch.write(f"{next(numbers):064x}", {"kind": "calibration"}, _FILES))
            case "load":
                spec = self.nodes[about].spec
                return watch.once(lambda: load_checked(spec, bench.data_dir, bench.facts))
            case "clean":
                return clean_seconds(bench.arrays(about), bench, watch)
            case "pack":
                return pack_seconds(self._images(fields), watch, scratch)
            case "unpack":
                return unpack_seconds(self._images(fields), watch)
            case "step":
                return step_seconds(self.nodes[about], bench, watch, fields["batch"])
            case "validate":
                return validation_seconds(self.nodes[about], bench, watch, fields["batch"])
            case "make":
                return make_seconds(self.nodes[about], bench, watch, scratch)
            case "save":
                return save_seconds(self.nodes[about], bench, watch, scratch)
            case "network":
                return self._network_seconds(self.nodes[about])
            case "predict":
                data = self._data(self.nodes[about])
                return predict_seconds(self._network(about, 0), data, fields["batch"], bench, watch)
            case "attack":
                node = self.nodes[about]
                keys = [node.inputs[f"member_{i}"] for i in range(fields["members"])]
                networks = [self._network(key, i) for i, key in enumerate(keys)]
                return attack_seconds(fields, networks, bench.arrays(node.inputs["data"]), bench, watch)
            case _:
                raise ValueError(f"no unit of work is called {what!r}")

    def _network(self, key: str, seed: int) -> nn.Module:
        node = self.nodes[key]
        network = random_network(node, seed) if node.kind in NETWORKS else loaded(node.spec, self.bench.data_dir).module
        return network.to(self.bench.device).eval().requires_grad_(False)

    def _network_seconds(self, node: Node) -> float:
        if node.kind in NETWORKS:
            return network_seconds(node, self.bench, self.watch)

        def load() -> None:
            module = loaded(node.spec, self.bench.data_dir).module
            weights_digest(module)
            module.to(self.bench.device)

        return self.watch.seconds(load)

    def _data(self, node: Node) -> DataSet:
        return self.bench.arrays(node.inputs["data"])

    def _images(self, fields: Mapping[str, Any]) -> Tensor:
        """Noise that is as smooth as photographs: what packing takes depends on how well it compresses."""
        side, channels = fields["image_size"], fields["channels"]
        count = max(1, min(_PACKED, 2**26 // (side * side * channels)))
        coarse = torch.rand(count, channels, max(side // 4, 1), max(side // 4, 1), generator=_generator())
        return nn.functional.interpolate(coarse, size=(side, side), mode="bilinear").mul(255).round().div(255)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _started() -> None:
    """Start a process and import what a worker does."""
    program = "from rstbench.build import Bench, choose_device, run_node; choose_device(None)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"a worker process does not start: {done.stderr.strip()[-500:]}")


def _silent(done: float, total: float, note: str) -> None:
    pass
