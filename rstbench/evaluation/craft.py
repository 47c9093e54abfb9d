"""Adversarial images of a whole test set: views, batches, random draws, what it cost, and what looked odd."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rstbench.attacks.autoattack import autoattack
from rstbench.attacks.autoattack_state import Saved
from rstbench.attacks.draws import PerImage
from rstbench.attacks.threat import Threat
from rstbench.defenses.view import CallableView, View
from rstbench.defenses.views import EnsembleView, ExpectationView, Member, SwitchView, Together
from rstbench.errors import SpecError
from rstbench.evaluation.batches import Images, InParts, padded
from rstbench.evaluation.blocks import Told, block_size, leaves_out
from rstbench.evaluation.engine import AllInEngine, Counter, InEngine, check, in_engine, together_of
from rstbench.evaluation.low_precision import AgainstFp32, against_fp32, confirmed
from rstbench.evaluation.numerics import exact_fp32
from rstbench.evaluation.reliability import Rising, constant_output, probe
from rstbench.evaluation.run_attack import run_attack
from rstbench.networks.compiling import explained
from rstbench.spec.attacks import BLACK_BOX, AllMembersSpec, AutoAttackSpec, CraftedSpec
from rstbench.spec.budgets import budget
from rstbench.training import derive_seed, generator

PROBED = 64
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
    gradient's forward pass is in it. Of attacks that step every image several times, one forward pass of each is ours,
    to see what stood before.
    seconds: of the attack alone. None if the attack went on from a saved state: what was spent before is not known.
    against_fp32: how low precision compares, where the engine crafts in it; neither counted nor timed.
    """

    images: Tensor
    queries: Tensor | None
    flags: tuple[str, ...]
    forward: int | None
    gradient: int | None
    seconds: float | None
    against_fp32: AgainstFp32 | None = None


def threat_of(spec: CraftedSpec) -> Threat | None:
    """Norm and epsilon that an attack's images keep; None for a minimum-norm attack."""
    kept = budget(spec)
    return None if kept is None else Threat(*kept)


def view_of(
    members: Sequence[Member],
    weights: Sequence[float],
    spec: CraftedSpec,
    draws: torch.Generator,
    together: Together | None = None,
) -> View:
    """The view an attack asks for. `member` takes one network; the others all. draws: of view `switch` only.

    together: all members of a probability above zero in one pass, for views `eot` and `ensemble`. Raises `SpecError`
    if `member` is asked of several networks.
    """
    if isinstance(spec, AllMembersSpec):  # has the members themselves; this is what is probed
        return ExpectationView(members, weights)
    if spec.view == "eot":
        return ExpectationView(members, weights, spec.expectation == "mean_unit_gradient", together)
    if spec.view == "ensemble":
        return EnsembleView(members, weights, spec.average, together)
    if spec.view == "switch":
        return SwitchView(members, weights, draws)
    if len(members) != 1:
        raise SpecError(f"the view `member` is of one network, not of {len(members)}")
    return CallableView(members[0])


@explained()
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
    attack runs on batches of `spec.batch`, the last one padded. Attacks that leave out images one by one
    (`blocks.leaves_out`) run on large blocks instead, whose survivors are asked about in batches; nothing but rounding
    depends on how images are grouped there. AutoAttack batches what is still standing. Where memory is short, only the
    passes through the networks are split. progress: (done, of, "images"), several times a second, and of AutoAttack
    (attacks done, attacks, which), after each batch; what it raises ends the attack. saved: where AutoAttack keeps its
    state.
    Low precision only crafts: fp32 says who has fallen (but for AutoAttack's APGD as it goes along, which reads it off
    the answers that come with gradients), and the first images are attacked in fp32 as well (flag
    `low_precision_weaker`, `Crafted.against_fp32`).
    Raises `SpecError` if a default of the spec is not written out or members cannot be asked together, `DeviceError` if
    one image does not fit or the engine's compiler is missing or fails.
    """
    device, counter = target.device, Counter()
    members = [in_engine(m, spec.engine, device, counter) for m in target.members]
    switching = generator(seed, "switch")
    told = Told(progress, spec, len(clean), len(members))
    together = together_of(target.members, target.weights, spec, device, counter)
    asked: list[InEngine | AllInEngine] = [*members, *([] if together is None else [together])]
    view = InParts(view_of(members, target.weights, spec, switching, together), spec.batch, told.passes)
    # For what asks the members themselves.
    parts = [InParts(CallableView(member), spec.batch, told.passes) for member in members]
    with exact_fp32(device):
        # AutoAttack has checks of its own.
        flags = set() if isinstance(spec, AutoAttackSpec) else set(_probed(view, clean, labels, device))
    check(asked)
    believed = confirmed(view, [part.logits for part in parts], target.weights, spec)
    counter.forward = counter.gradient = 0
    resumed = isinstance(spec, AutoAttackSpec) and saved is not None and saved.load() is not None
    started = time.monotonic()
    switching.manual_seed(derive_seed(seed, "switch"))
    if isinstance(spec, AutoAttackSpec):
        with exact_fp32(device):
            found = autoattack(
                believed,
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
                saved=None if saved is None else _Checked(saved, asked),
                progress=progress,
            )
        check(asked)
        images, queries = found.images.cpu(), found.queries
        flags |= set(found.flags)
    else:
        images, queries, more = _in_order(
            believed, [part.logits for part in parts], target, clean, labels, indices, spec, seed, told, asked
        )
        flags |= more
    forward, gradient, seconds = counter.forward, counter.gradient, time.monotonic() - started
    with exact_fp32(device):
        # A detector answers alike for images that look attacked, and shows on these only.
        flags |= set(constant_output(view, images[:PROBED].to(device)))
        check(asked)
    fitted = min(each.batch for each in (view, *parts))
    if fitted < spec.batch:
        flags.add(f"batch:halved_to_{fitted}")
    compared = None
    if spec.engine.precision != "fp32" and spec.kind not in BLACK_BOX and len(clean) > 0:
        exact = spec.model_copy(update={"engine": spec.engine.model_copy(update={"precision": "fp32"})})

        def exactly(first: int) -> Tensor:
            part, truth, rows = clean[:first], labels[:first], indices[:first]
            return craft(
                target, part, truth, rows, exact, seed, lambda *_: progress(len(clean), len(clean), "images")
            ).images

        compared = against_fp32(target.members, target.weights, images, labels, spec.batch, exactly)
        flags |= {"low_precision_weaker"} if compared.weaker else set()
    if resumed:
        return Crafted(images, queries, tuple(sorted(flags)), None, None, None, compared)
    return Crafted(images, queries, tuple(sorted(flags)), forward, gradient, seconds, compared)


def _in_order(
    view: View,
    members: Sequence[Member],
    target: Target,
    clean: Images,
    labels: Tensor,
    indices: Sequence[int],
    spec: CraftedSpec,
    seed: int,
    told: Told,
    asked: Sequence[InEngine | AllInEngine],
) -> tuple[Tensor, Tensor | None, set[str]]:
    count, device = len(clean), target.device
    images = torch.empty(clean.shape, dtype=torch.float32)
    queries: list[Tensor] = []
    flags: set[str] = set()
    rising = Rising()
    size = min(block_size(spec, clean.shape[1:]), count)
    for begin in range(0, count, max(size, 1)):
        end = min(begin + size, count)
        told.block(begin, end)
        # Where the batch stays what it is, the last one is as large as the others. Blocks shrink anyway.
        last = end if leaves_out(spec) else begin + size
        rows = [*indices[begin:end], *([indices[count - 1]] * (last - end))]
        inputs, truth = (padded(each, begin, last).to(device) for each in (clean, labels))
        with exact_fp32(device):
            draws = PerImage(seed, rows)
            found = run_attack(spec, view, members, target.weights, inputs, truth, draws, target.classes)
            check(asked)
            if found.losses is not None and len(found.losses) > 1:
                # Images that were fooled before the attack say nothing; where they are left out, losses tell.
                standing = torch.ones_like(truth, dtype=torch.bool)
                if not leaves_out(spec):
                    standing = _standing(view, inputs, truth)
                rising.add(found.losses[:, : end - begin], standing[: end - begin])
        images[begin:end] = found.images[: end - begin].cpu()
        if found.queries is not None:
            queries.append(found.queries[: end - begin].cpu())
        flags |= set(found.flags)
        told.done()
    kept = budget(spec)
    if kept is None or kept[1] > 0:  # without a budget nothing can rise
        flags |= set(rising.flags())
    return images, torch.cat(queries) if queries else None, flags


def _standing(view: View, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return view.logits(images).argmax(1) == labels


def _probed(view: View, images: Images, labels: Tensor, device: torch.device) -> tuple[str, ...]:
    # No attack but AutoAttack's version rand is made for answers that differ: it believes the first one it gets.
    return probe(view, images[:PROBED].to(device), labels[:PROBED].to(device), deterministic=True)


def _expected_accuracy(members: Sequence[Member], weights: Sequence[float]) -> Callable[[Tensor, Tensor], Tensor]:
    def expected(images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            right = [w * (m(images).argmax(1) == labels) for m, w in zip(members, weights, strict=True) if w > 0]
        return torch.stack(right).sum(0)

    return expected


class _Checked:
    """A saved state that is written only where all answers so far were numbers: going on from it, none is seen again.

    Raises `RunError` where one was not.
    """

    def __init__(self, saved: Saved, asked: Sequence[InEngine | AllInEngine]) -> None:
        self._saved, self._asked = saved, asked

    def load(self) -> bytes | None:
        return self._saved.load()

    def save(self, data: bytes) -> None:
        check(self._asked)
        self._saved.save(data)


def _required(kept: tuple[str, float] | None) -> tuple[str, float]:
    if kept is None:
        raise SpecError("this attack needs a budget: norm and epsilon")
    return kept
