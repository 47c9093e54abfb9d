"""What evaluations are measured on: a ticket searched for a little while, and a distance at which half of it stands.

How long an attack takes that leaves out what has fallen depends on how much falls. So that this is the same wherever
the benchmarks run, the images are those that the network classifies right, and epsilon is the distance at which about
half of them stand under PGD-20, found by bisection on other images. The network is a full-width PreActResNet-18, at
20 % remaining, after a hundred steps of our own search: far from a good one, but with a mask, batch-norm statistics and
margins that come of a search.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rstbench.data.sources import load
from rstbench.evaluation.craft import Target, craft
from rstbench.evaluation.judge import predict
from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.networks.spec import ModelSpec
from rstbench.spec.attacks import CraftedSpec, PgdSpec
from rstbench.spec.budgets import written_out
from rstbench.spec.models import DatasetSpec
from rstbench.spec.training import Engine, InnerAttack, SearchSpec
from rstbench.tickets.mask import expand, kept_units, maskable, select
from rstbench.tickets.search import Scores
from rstbench.training import Run, generator
from tests.benchmarks.plain import MaskedNetwork
from tests.networks.specs import spec as model_of

CPU = torch.device("cpu")
INIT, RATIO = "signed_kaiming_constant", 0.2
_GRID = 1020  # epsilon in quarters of a pixel value


@dataclass(frozen=True)
class Made:
    """How the network was made; part of the name it is kept under."""

    source: str
    width: float = 1.0
    steps: int = 100
    batch: int = 32
    seed: int = 0
    held_out: int = 48
    version: int = 1

    @property
    def key(self) -> str:
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Subject:
    """images: float32 (N, 3, 32, 32) in [0, 1], all classified right; epsilon: as suites write it."""

    model: ModelSpec
    scores: dict[str, Tensor]
    buffers: dict[str, Tensor]
    epsilon: str
    images: Tensor
    labels: Tensor
    source: str

    def _dense(self) -> nn.Module:
        network = build(self.model)
        initialise(network, INIT, 0)
        network.load_state_dict(self.buffers, strict=False)
        return network.eval()

    def network(self) -> nn.Module:
        """The ticket as a plain network: masks multiplied in, evaluation mode."""
        return _ticket(self._dense(), self.scores)

    def masked(self) -> MaskedNetwork:
        """The same with its mask made in every forward pass."""
        made = MaskedNetwork(self._dense(), self.scores, RATIO)
        made.eval()
        return made

    def pgd(self, **changes: object) -> CraftedSpec:
        """PGD-20 at the subject's epsilon, as the paper's code stops it, in the default engine of our networks."""
        return pgd_at(self.epsilon, **changes)


def pgd_at(epsilon: str, **changes: object) -> CraftedSpec:
    """PGD-20 at `epsilon`, step a quarter of it."""
    fields = {"kind": "pgd", "epsilon": epsilon, "stop": "source_fooled", **changes}
    return written_out(PgdSpec.model_validate(fields), False, 32, True)


def quiet(done: float, total: float, note: str) -> None:
    pass


def subject_of(count: int, data_dir: Path | None, kept: Path, say: Callable[[str], None]) -> Subject:
    """`count` images and the network, which is kept in the folder `kept` once it is made.

    data_dir: with cifar10.npz; None: handwritten digits, enlarged to 32 x 32 and three channels.
    """
    made = Made("digits" if data_dir is None else "cifar10")
    model = model_of("preact_resnet18", width=made.width)
    train, train_labels, test, test_labels = _data(made.source, data_dir)
    file = kept / f"{made.key}.safetensors"
    if not file.is_file():
        say(f"searching the benchmark's network ({made.steps} steps at batch {made.batch}); kept in {file}")
        scores, buffers = _searched(model, made, train, train_labels)
        network = _ticket(_filled(model, buffers), scores)
        chosen = _right(network, test, test_labels, made.held_out, newest=True)
        epsilon = _halving(network, _floats(test[chosen]), test_labels[chosen], say)
        tensors = {f"scores/{name}": value for name, value in scores.items()}
        tensors |= {f"buffer/{name}": value for name, value in buffers.items()}
        unfinished = file.with_suffix(".part")
        save_file(tensors, unfinished, {"epsilon": epsilon})
        unfinished.rename(file)
    with safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        epsilon = opened.metadata()["epsilon"]
    scores = {name.removeprefix("scores/"): each for name, each in tensors.items() if name.startswith("scores/")}
    buffers = {name.removeprefix("buffer/"): each for name, each in tensors.items() if name.startswith("buffer/")}
    network = _ticket(_filled(model, buffers), scores)
    rows = _right(network, test, test_labels, count)
    return Subject(model, scores, buffers, epsilon, _floats(test[rows]), test_labels[rows], made.source)


def _data(source: str, data_dir: Path | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    found = load(DatasetSpec(source=source), data_dir)
    parts = []
    for images, labels in ((found.train_images, found.train_labels), (found.test_images, found.test_labels)):
        pixels = np.asarray(images)
        if source == "digits":
            pixels = np.repeat(np.repeat(np.repeat(pixels, 4, axis=1), 4, axis=2), 3, axis=3)
        parts += [torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))), torch.from_numpy(labels)]
    train, train_labels, test, test_labels = parts
    return train, train_labels, test, test_labels


def _floats(images: Tensor) -> Tensor:
    return images.float() / 255


def _searched(
    model: ModelSpec, made: Made, images: Tensor, labels: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    spec = SearchSpec(
        batch=made.batch,
        inner=InnerAttack(kind="fgsm_rs", epsilon="4/255"),
        engine=Engine(precision="bf16", layout="channels_last"),
    )
    network = build(model)
    initialise(network, INIT, made.seed)
    scores = Scores(network, RATIO, "element", spec, made.seed)
    run = Run(scores, spec, made.seed, CPU)
    for number in range(made.steps):
        noise = generator(made.seed, "step", number)
        rows = torch.randint(len(images), (made.batch,), generator=noise)
        lr = spec.lr * 0.5 * (1 + math.cos(math.pi * number / made.steps))
        run.step(_floats(images[rows]), labels[rows], lr, noise)
    parameters = dict(network.named_parameters())
    buffers = {n: v.clone().contiguous() for n, v in network.state_dict().items() if n not in parameters}
    return {name: value.detach().clone().contiguous() for name, value in scores.variables.items()}, buffers


def _filled(model: ModelSpec, buffers: dict[str, Tensor]) -> nn.Module:
    network = build(model)
    initialise(network, INIT, 0)
    network.load_state_dict(buffers, strict=False)
    return network.eval()


def _ticket(network: nn.Module, scores: dict[str, Tensor]) -> nn.Module:
    with torch.no_grad():
        for name, weight in maskable(network).items():
            weight.mul_(expand(select(scores[name].abs(), kept_units(weight.numel(), RATIO)), weight))
    return network.eval().requires_grad_(False)


def _right(network: nn.Module, images: Tensor, labels: Tensor, count: int, newest: bool = False) -> Tensor:
    """Rows of `count` images that are classified right, from the front of the test set, or from its back."""
    order = torch.arange(len(images))
    order = order.flip(0) if newest else order
    found: list[Tensor] = []
    for rows in order.split(200):
        predicted, _ = predict(network, _floats(images[rows]), 100, quiet)
        found.append(rows[predicted == labels[rows]])
        if sum(map(len, found)) >= count:
            break
    chosen = torch.cat(found)[:count]
    if len(chosen) < count:
        raise RuntimeError(f"the benchmark's network classifies only {len(chosen)} test images right, not {count}")
    return chosen


def _halving(network: nn.Module, images: Tensor, labels: Tensor, say: Callable[[str], None]) -> str:
    low, high = 1, 128
    target = Target([network], 10, CPU)
    while high - low > 1:
        middle = (low + high) // 2
        epsilon = str(Fraction(middle, _GRID))
        spec = pgd_at(epsilon, batch=len(images))
        made = craft(target, images, labels, range(len(images)), spec, 1, quiet)
        predicted, _ = predict(network, made.images, len(images), quiet)
        standing = float((predicted == labels).double().mean())
        say(f"epsilon {epsilon}: {100 * standing:.0f} % stand")
        if abs(standing - 0.5) <= 0.05:
            return epsilon
        low, high = (middle, high) if standing > 0.5 else (low, middle)
    return str(Fraction(low, _GRID))
