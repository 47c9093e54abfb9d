"""Adversarial images of a whole test set: views, batches, random draws, what it cost, and what looked odd."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rstbench.attacks.autoattack import autoattack
from rstbench.attacks.autoattack_state import Saved
from rstbench.attacks.draws import PerImage
from rstbench.attacks.threat import Threat
from rstbench.defenses.view import CallableView, View
from rstbench.defenses.views import EnsembleView, ExpectationView, Member, SwitchView
from rstbench.errors import RunError, SpecError
from rstbench.evaluation.batches import Images, InParts, padded, whole_batches
from rstbench.evaluation.numerics import exact_fp32
from rstbench.evaluation.reliability import probe, trace_flags
from rstbench.evaluation.run_attack import run_attack
from rstbench.evaluation.target import first_not_finite
from rstbench.spec.attacks import AllMembersSpec, AutoAttackSpec, CraftedSpec
from rstbench.spec.budgets import budget
from rstbench.spec.training import Engine
from rstbench.training import derive_seed, generator, numerics

PROBED = 128
"""Images that the reliability checks look at."""


@dataclass(frozen=True)
class Target:
    """Whom to attack. members: on `device`; they are put into evaluation mode. probabilities: default uniform."""

    members: Sequence[nn.Module]
    classes: int
    device: torch.device
    probabilities: Sequence[float] | None = None

    @property
    def weights(self) -> Sequence[float]:
        """Probability of each member."""
        return self.probabilities or [1.0 / len(self.members)] * len(self.members)


@dataclass(frozen=True)
class Crafted:
    """Adversarial images float32 (N, C, H, W) on the CPU, and what is known of their making.

    queries: (N,) int64 of a black-box attack, else None. flags: reliability flags, and a batch that did not fit.
    forward, gradient: passes through single networks, counted in images, those that fill the last batch included; a
    gradient's forward pass is in it. One forward pass of each image is ours, to see what stands before the attack.
    seconds: of the attack alone. None if the attack went on from a saved state: what was spent before is not known.
    """

    images: Tensor
    queries: Tensor | None
    flags: tuple[str, ...]
    forward: int | None
    gradient: int | None
    seconds: float | None


@dataclass
class _Counter:
    forward: int = 0
    gradient: int = 0


@dataclass
class _Rising:
    """Loss traces of all batches; images that were fooled before the first step say nothing."""

    losses: list[Tensor] = field(default_factory=list)
    standing: list[Tensor] = field(default_factory=list)

    def add(self, losses: Tensor, standing: Tensor) -> None:
        self.losses.append(losses.cpu())
        self.standing.append(standing.cpu())

    def flags(self) -> tuple[str, ...]:
        return trace_flags(torch.cat(self.losses, dim=1), torch.cat(self.standing)) if self.losses else ()


def threat_of(spec: CraftedSpec) -> Threat | None:
    """Norm and epsilon that an attack's images keep; None for a minimum-norm attack."""
    kept = budget(spec)
    return None if kept is None else Threat(*kept)


def view_of(members: Sequence[Member], weights: Sequence[float], spec: CraftedSpec, draws: torch.Generator) -> View:
    """The view an attack asks for. `member` takes one network; the others all. draws: of view `switch` only.

    Raises `SpecError` if `member` is asked of several networks.
    """
    if isinstance(spec, AllMembersSpec):  # has the members themselves; this is what is probed
        return ExpectationView(members, weights)
    if spec.view == "eot":
        return ExpectationView(members, weights, spec.expectation == "mean_unit_gradient")
    if spec.view == "ensemble":
        return EnsembleView(members, weights, spec.average)
    if spec.view == "switch":
        return SwitchView(members, weights, draws)
    if len(members) != 1:
        raise SpecError(f"the view `member` is of one network, not of {len(members)}")
    return CallableView(members[0])


def _in_engine(network: nn.Module, engine: Engine, device: torch.device, counter: _Counter) -> Member:
    """The network in evaluation mode, in the attack's precision and memory layout; logits in fp32; passes counted."""
    network.eval()
    layout = torch.channels_last if engine.layout == "channels_last" else torch.contiguous_format

    def forward(images: Tensor) -> Tensor:
        if images.requires_grad and torch.is_grad_enabled():
            counter.gradient += len(images)
        else:
            counter.forward += len(images)
        with numerics(engine, device):
            logits: Tensor = network(images.contiguous(memory_format=layout))
            if bool(logits.isnan().any()):
                where = first_not_finite(network, images.detach())
                raise RunError(f"under attack, the network's answers are not numbers (NaN): {where}")
        return logits.float()

    return forward


def craft(
    target: Target,
    clean: Images,
    labels: Tensor,
    indices: Sequence[int],
    spec: CraftedSpec,
    seed: int,
    progress: Callable[[float, float, str], None],
    saved: Saved | None = None,
) -> Crafted:
    """Attack all images.

    clean: float images (N, C, H, W) in [0, 1], on the CPU or on disk; labels: int64 (N,); indices: what tells the
    images apart, such as their place in the test set: an image's random numbers follow from the seed and its index. The
    attack runs on batches of `spec.batch`, the last one padded; AutoAttack batches what is still standing. Where memory
    is short, only the passes through the networks are split. saved: where AutoAttack keeps its state.
    Raises `SpecError` if a default of the spec is not written out, `DeviceError` if one image does not fit.
    """
    device, counter = target.device, _Counter()
    members = [_in_engine(m, spec.engine, device, counter) for m in target.members]
    switching = generator(seed, "switch")
    view = InParts(view_of(members, target.weights, spec, switching), spec.batch)
    # For what asks the members themselves.
    parts = [InParts(CallableView(member), spec.batch) for member in members]
    with exact_fp32(device):
        flags = set(_probed(view, clean, labels, spec, device))
    counter.forward = counter.gradient = 0
    resumed = isinstance(spec, AutoAttackSpec) and saved is not None and saved.load() is not None
    started = time.monotonic()
    switching.manual_seed(derive_seed(seed, "switch"))
    if isinstance(spec, AutoAttackSpec):
        with exact_fp32(device):
            found = autoattack(
                view,
                clean[:],  # it comes back to what still stands
                labels,
                threat=Threat(*_required(budget(spec))),
                version=spec.version,
                batch=spec.batch,
                seed=derive_seed(seed, "autoattack") % 2**32,
                steps=spec.steps,
                square_queries=spec.square_queries,
                eot_queries=spec.eot_queries,
                expected_accuracy=_expected_accuracy([part.logits for part in parts], target.weights),
                reseed=switching.manual_seed,
                device=device,
                saved=saved,
                progress=progress,
            )
        images, queries = found.images.cpu(), found.queries
        flags |= set(found.flags)
    else:
        images, queries, more = _in_order(
            view, [part.logits for part in parts], target, clean, labels, indices, spec, seed, progress
        )
        flags |= more
    forward, gradient, seconds = counter.forward, counter.gradient, time.monotonic() - started
    with exact_fp32(device):
        # A detector answers alike for images that look attacked, and shows on these only.
        flags |= {"constant_output"} & set(_probed(view, images, labels, spec, device))
    fitted = min(each.batch for each in (view, *parts))
    if fitted < spec.batch:
        flags.add(f"batch:halved_to_{fitted}")
    if resumed:
        return Crafted(images, queries, tuple(sorted(flags)), None, None, None)
    return Crafted(images, queries, tuple(sorted(flags)), forward, gradient, seconds)


def _in_order(
    view: View,
    members: Sequence[Member],
    target: Target,
    clean: Images,
    labels: Tensor,
    indices: Sequence[int],
    spec: CraftedSpec,
    seed: int,
    progress: Callable[[float, float, str], None],
) -> tuple[Tensor, Tensor | None, set[str]]:
    count, device = len(clean), target.device
    images = torch.empty(clean.shape, dtype=torch.float32)
    queries: list[Tensor] = []
    flags: set[str] = set()
    rising = _Rising()
    size = min(spec.batch, count)
    for begin in range(0, whole_batches(count, spec.batch), max(size, 1)):
        end = min(begin + size, count)
        rows = [*indices[begin:end], *([indices[count - 1]] * (size - (end - begin)))]
        inputs, truth = (padded(each, begin, begin + size).to(device) for each in (clean, labels))
        with exact_fp32(device):
            with torch.no_grad():
                standing = view.logits(inputs).argmax(1) == truth
            draws = PerImage(seed, rows)
            found = run_attack(spec, view, members, target.weights, inputs, truth, draws, target.classes)
        images[begin:end] = found.images[: end - begin].cpu()
        if found.queries is not None:
            queries.append(found.queries[: end - begin].cpu())
        flags |= set(found.flags)
        if found.losses is not None:
            rising.add(found.losses[:, : end - begin], standing[: end - begin])
        progress(end, count, "images")
    kept = budget(spec)
    if kept is None or kept[1] > 0:  # without a budget nothing can rise
        flags |= set(rising.flags())
    return images, torch.cat(queries) if queries else None, flags


def _probed(view: View, images: Images, labels: Tensor, spec: CraftedSpec, device: torch.device) -> tuple[str, ...]:
    shown, truth = images[:PROBED].to(device), labels[:PROBED].to(device)
    # Only AutoAttack's version rand is made for answers that differ: any other attack believes the first one it gets.
    robust = isinstance(spec, AutoAttackSpec) and spec.version == "rand"
    return probe(view, shown, truth, deterministic=not robust)


def _expected_accuracy(members: Sequence[Member], weights: Sequence[float]) -> Callable[[Tensor, Tensor], Tensor]:
    def expected(images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            right = [w * (m(images).argmax(1) == labels) for m, w in zip(members, weights, strict=True) if w > 0]
        return torch.stack(right).sum(0)

    return expected


def _required(kept: tuple[str, float] | None) -> tuple[str, float]:
    if kept is None:
        raise SpecError("this attack needs a budget: norm and epsilon")
    return kept
