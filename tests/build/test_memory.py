"""Memory of an evaluation: large data sets are attacked and judged in parts, and nothing of a part stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import resource, sys
from pathlib import Path

import numpy as np
import torch

from rstbench.build import Bench, run_node
from rstbench.data.sources import facts
from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.networks.spec import ModelSpec
from rstbench.nodes import Node, node_key
from rstbench.spec.attacks import NOT_CRAFTED, PgdSpec
from rstbench.spec.budgets import written_out
from rstbench.spec.models import DatasetSpec
from rstbench.store import Store
from rstbench.tickets.checkpoint import checkpoint_bytes

torch.set_num_threads(1)
root, count, parts, early = Path(sys.argv[1]), *map(int, sys.argv[2:])
pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
labels = np.arange(count) % 10
np.savez(root / "noise.npz", train_images=pixels[:20], train_labels=labels[:20], test_images=pixels, test_labels=labels)
del pixels
store = Store(root / "store")
store.prepare()
bench = Bench(store, root, torch.device("cpu"))
model = ModelSpec(
    family="preact_resnet10", width=0.0625, classes=10, channels=3, image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3,
    bn_affine=False, classifier_bias=False,
)
network = build(model)
initialise(network, "kaiming_normal", 0)
key = "1" * 64
store.write(key, {"kind": "train"}, {"last.safetensors": checkpoint_bytes(model, network.state_dict())})


def made(kind, spec, inputs):
    name = node_key(kind, spec, inputs)
    return run_node(Node(kind, name, spec, inputs, kind, 1.0), bench, lambda done, total, note: None).key


source = DatasetSpec(source="arrays", name="noise")
load = source.model_dump(mode="json", exclude={"validation_fraction", "validation_seed"})
data = made("data", {"fingerprint": facts(source, root).fingerprint, "load": load}, {})
attack = written_out(PgdSpec(kind="pgd", steps=1, stop="source_fooled", batch=50), True, 32, ours=True)
attack = attack.model_dump(mode="json", exclude=NOT_CRAFTED)
for index in range(parts):
    spec = {"attack": attack, "checkpoint": "last", "seed": 0, "part": {"index": index, "of": parts}}
    images = made("craft", spec, {"data": data, "member_0": key})
    made("predict", {"checkpoint": "last", "batch": 50, "threads": 1}, {"images": images, "target": key})
    if index + 1 in (early, parts):
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    count, parts, early = 2400, 6, 2
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(count), str(parts), str(early)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout.split()
    first, last = (int(each) / 1024 for each in told)
    later = count * (parts - early) / parts * 4 * 3 * 32 * 32 / 2**20
    assert last - first < later / 3  # one float copy of the images of the later parts would be 19 MiB
