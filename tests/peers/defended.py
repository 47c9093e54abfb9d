"""The adversarially trained network of the desk profile, and real images: what all libraries attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from rstbench.attacks.threat import Threat
from rstbench.build import Bench
from rstbench.data.cuts import stratified_subset
from rstbench.data.sources import facts
from rstbench.data.tensors import as_float, to_device
from rstbench.evaluation.judge import check_images, predict
from rstbench.evaluation.numerics import exact_fp32
from rstbench.plan import plan
from rstbench.spec.load import load_suite
from rstbench.store import Store

SUITE = Path(__file__).parents[2] / "suites" / "table3_r2s.yaml"
CELL = {"dataset": "cifar10", "network": "preact_resnet18", "defense": "dense_at", "attack": "none"}
HOW = (
    "set RSTBENCH_PEERS_STORE to a store of `rstbench run suites/table3_r2s.yaml --profile desk --store STORE "
    + " ".join(f"--only {column}={value}" for column, value in CELL.items())
    + "` (about 20 minutes of one CPU core)"
)
CPU = torch.device("cpu")
BATCH = 100


@dataclass(frozen=True)
class Defended:
    """images: float32 (N, 3, 32, 32) in [0, 1], as many of each class; labels: int64 (N,)."""

    network: nn.Module
    images: Tensor
    labels: Tensor

    def first(self, count: int) -> Defended:
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    def right(self, images: Tensor, threat: Threat | None) -> Tensor:
        """Which images (N, ...) are classified right, bool (N,); whoever made them, their budget is checked."""
        check_images(images, self.images, threat)
        predictions, _ = predict(self.network, images, BATCH, lambda done, total, note: None)
        return predictions == self.labels

    def in_batches(self, attack: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """What an attack makes of all images, in the batches that ours gets."""
        with exact_fp32(CPU):
            parts = [
                attack(self.images[begin : begin + BATCH].clone(), self.labels[begin : begin + BATCH].clone())
                for begin in range(0, len(self.images), BATCH)
            ]
        return torch.cat([part.detach() for part in parts])


def defended(store: Path, data_dir: Path, count: int) -> Defended | None:
    """The network out of the store, which is only read, and `count` test images; None if it is not there."""
    suite = load_suite(SUITE, "desk")
    data = suite.run.datasets["cifar10"]
    nodes = plan(suite, {data: facts(data, data_dir)}, only=CELL).nodes.values()
    (made,) = (node for node in nodes if node.kind == "train")
    (judged,) = (node for node in nodes if node.kind == "predict")
    bench = Bench(Store(store), data_dir, CPU)
    if not bench.store.has(made.key):
        return None
    network = bench.network(made.key, judged.spec["checkpoint"]).requires_grad_(False)
    arrays = bench.arrays(made.inputs["data"])
    rows = stratified_subset(arrays.test_labels, count, 0)
    # In an order that mixes the classes, so that the first few are a fair choice too.
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).numpy()]
    return Defended(
        network, as_float(to_device(arrays.test_images[rows], CPU)), torch.from_numpy(arrays.test_labels[rows])
    )


@contextmanager
def seeded() -> Iterator[None]:
    """Torch's global generator, from which other libraries draw, at a seed; afterwards as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
