"""Adversarial images of a whole test set against one view."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from rstbench.attacks.pgd import pgd
from rstbench.attacks.threat import Threat
from rstbench.defenses.view import CallableView, View
from rstbench.defenses.views import EnsembleView, ExpectationView, Member
from rstbench.errors import SpecError
from rstbench.evaluation.batches import InParts, padded, whole_batches
from rstbench.evaluation.numerics import exact_fp32
from rstbench.spec.base import distance
from rstbench.spec.models import Engine, PgdSpec
from rstbench.training import generator, numerics


def view_of(members: Sequence[Member], spec: PgdSpec, probabilities: Sequence[float] | None = None) -> View:
    """The view an attack asks for. `member` takes one network; `eot` and `ensemble` take all.

    probabilities: of the members, as the defense draws them; default: uniform. Raises `SpecError` if `member` is
    asked of several networks.
    """
    weights = probabilities or [1.0 / len(members)] * len(members)
    if spec.view == "eot":
        return ExpectationView(members, weights)
    if spec.view == "ensemble":
        return EnsembleView(members, weights, spec.average)
    if len(members) != 1:
        raise SpecError(f"the view `member` is of one network, not of {len(members)}")
    return CallableView(members[0])


def threat_of(spec: PgdSpec) -> Threat:
    """Norm and epsilon of an attack."""
    return Threat(spec.norm, distance(spec.epsilon))


def _in_engine(network: nn.Module, engine: Engine, device: torch.device) -> Member:
    """The network in evaluation mode, in the attack's precision and memory layout; logits in fp32."""
    network.eval()
    layout = torch.channels_last if engine.layout == "channels_last" else torch.contiguous_format

    def forward(images: Tensor) -> Tensor:
        with numerics(engine, device):
            logits: Tensor = network(images.contiguous(memory_format=layout))
        return logits.float()

    return forward


def craft(
    members: Sequence[nn.Module],
    clean: Tensor,
    labels: Tensor,
    spec: PgdSpec,
    seed: int,
    device: torch.device,
    progress: Callable[[float, float, str], None],
    probabilities: Sequence[float] | None = None,
) -> tuple[Tensor, int]:
    """Adversarial images float32 (N, C, H, W), on the CPU; and how many images at a time fitted into memory.

    clean: float images (N, C, H, W) in [0, 1], on the CPU; labels: int64 (N,). members: on `device`; they are put
    into evaluation mode. The attack runs on batches of `spec.batch`, the last one padded; the random start of a batch
    depends on the seed and on the place of the batch. Where memory is short, only the passes through the networks are
    split. Raises `SpecError` if the step size is left open, `DeviceError` if one image does not fit.
    """
    if spec.step_size is None:
        raise SpecError("the attack's step size is left open; `with_step_size` writes the default out")
    step_size = distance(spec.step_size)
    view = InParts(view_of([_in_engine(m, spec.engine, device) for m in members], spec, probabilities), spec.batch)
    count = len(clean)
    result = torch.empty(clean.shape, dtype=torch.float32)
    size = min(spec.batch, count)
    for begin in range(0, whole_batches(count, spec.batch), max(size, 1)):
        end = min(begin + size, count)
        with exact_fp32(device):
            adversarial = pgd(
                view,
                padded(clean, begin, begin + size).to(device),
                padded(labels, begin, begin + size).to(device),
                threat=threat_of(spec),
                generator=generator(seed, "craft", begin),
                step_size=step_size,
                steps=spec.steps,
                restarts=spec.restarts,
                start=spec.start,
                stop=spec.stop,
            )
        result[begin:end] = adversarial[: end - begin].cpu()
        progress(end, count, "images")
    return result, view.batch
