"""A transfer matrix of seven tickets through builders and a store, beside the work that nobody can avoid."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from rstbench.build import Bench, run_node
from rstbench.data.sources import facts
from rstbench.evaluation.craft import Target, craft
from rstbench.evaluation.judge import predict
from rstbench.networks import build
from rstbench.networks.init import initialise, theta_digest
from rstbench.nodes import Node, node_key
from rstbench.spec.attacks import NOT_CRAFTED
from rstbench.spec.models import DatasetSpec
from rstbench.spec.training import SearchSpec
from rstbench.store import Store
from rstbench.tickets.search import Scores
from rstbench.tickets.ticket import Ticket, read_ticket
from rstbench.tickets.weights import RandomWeights
from tests.benchmarks.alternating import Case, alternate, record
from tests.benchmarks.results import Results
from tests.benchmarks.subject import INIT, pgd_at, quiet
from tests.networks.specs import spec as model_of

CPU = torch.device("cpu")
RATIOS = (0.03, 0.05, 0.07, 0.10, 0.15, 0.20, 0.30)
IMAGES, BATCH = 256, 128
MODEL = model_of("preact_resnet18", width=0.25)
NODES, LEAST = "builders and store", "7 attacks and 49 clean passes, nothing else"


def _tickets() -> list[bytes]:
    made = []
    for ratio in RATIOS:
        network = build(MODEL)
        initialise(network, INIT, 0)
        digest = theta_digest(network)
        masks = Scores(network, ratio, "element", SearchSpec(), seed=0).masks()
        parameters = dict(network.named_parameters())
        buffers = {name: value for name, value in network.state_dict().items() if name not in parameters}
        weights = RandomWeights(init=INIT, seed=0)
        made.append(Ticket(MODEL, weights, ratio, "element", digest, masks, buffers, {}).to_bytes())
    return made


def test_transfer_matrix(benchmark: BenchmarkFixture, results: Results, tmp_path: Path, threads: int) -> None:
    random = np.random.Generator(np.random.Philox(0))
    pixels = random.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(IMAGES) % 10
    train = {"train_images": np.zeros((10, 32, 32, 3), dtype=np.uint8), "train_labels": np.arange(10)}
    np.savez(tmp_path / "noise.npz", **train, test_images=pixels, test_labels=labels)
    tickets = _tickets()
    networks = [read_ticket(each).network() for each in tickets]
    attack = pgd_at("8/255", batch=BATCH, stop="never", engine={"threads": threads})
    clean = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255  # as what is stored lies in memory
    truth = torch.from_numpy(labels)
    numbers = count()

    def least() -> None:
        for network in networks:
            target = Target([network], 10, CPU)
            craft(target, clean, truth, range(IMAGES), attack, 0, quiet)
            for judge in networks:
                predict(judge, clean, BATCH, quiet)

    def matrix() -> None:
        """Everything that a fresh store, a fresh worker and 57 nodes add."""
        store = Store(tmp_path / f"store_{next(numbers)}")
        store.prepare()
        bench = Bench(store, tmp_path, CPU)
        keys = [f"{i + 1:064x}" for i in range(len(tickets))]
        for key, ticket in zip(keys, tickets, strict=True):
            store.write(key, {"kind": "search"}, {"last.safetensors": ticket})
        source = DatasetSpec(source="arrays", name="noise")
        load = source.model_dump(mode="json", exclude={"validation_fraction", "validation_seed"})
        data = _built(bench, "data", {"fingerprint": facts(source, tmp_path).fingerprint, "load": load}, {})
        for key in keys:
            spec = {"attack": attack.model_dump(mode="json", exclude=NOT_CRAFTED), "checkpoint": "last", "seed": 0}
            images = _built(bench, "craft", spec, {"data": data, "member_0": key})
            for judge in keys:
                judged = {"checkpoint": "last", "batch": BATCH, "threads": threads}
                _built(bench, "predict", judged, {"images": images, "target": judge})

    case = Case("Transfer matrix, seven quarter-width PreActResNet-18", f"{IMAGES} images, PGD-20", "a matrix")
    times = alternate(benchmark, case, {LEAST: least, NODES: matrix}, 3)
    found = record(results, benchmark, case, times, NODES, LEAST, 1 / 1.1)
    assert found >= 1 / 1.1


def _built(bench: Bench, kind: str, spec: dict[str, object], inputs: dict[str, str]) -> str:
    key = node_key(kind, spec, inputs)
    run_node(Node(kind, key, spec, inputs, f"{kind} of a benchmark", 1.0), bench, quiet)
    return key
