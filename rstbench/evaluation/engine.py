"""The networks that crafting computes with, as the attack's engine has them, and what their passes cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rstbench.defenses.stacked import Stacked
from rstbench.errors import RunError, SpecError
from rstbench.evaluation.crafting import crafting_network
from rstbench.evaluation.target import first_not_finite
from rstbench.networks.compiling import compiled
from rstbench.networks.folding import is_ours
from rstbench.spec.attack_fields import AttackEngine
from rstbench.spec.attacks import AllMembersSpec, CraftedSpec
from rstbench.training import numerics


@dataclass
class Counter:
    """Passes through single networks, counted in images; a gradient's forward pass is in `gradient`."""

    forward: int = 0
    gradient: int = 0

    def count(self, images: Tensor, networks: int = 1) -> None:
        """Count a pass that is about to be made, of images (..., N, C, H, W)."""
        if _differentiated(images):
            self.gradient += networks * images.shape[-4]
        else:
            self.forward += networks * images.shape[-4]


class InEngine:
    """One network, from images (N, C, H, W) in [0, 1] to fp32 logits (N, classes): a `defenses.views.Member`.

    Networks of ours answer through a copy that is folded, laid out and cast as the engine says (`crafting_network`),
    others as they are. bf16: gradients only, and the answers that come with them; an answer that is asked for alone is
    fp32, so what tells whether an image has fallen is, too. Others than ours run under autocast there, their first and
    last layers included, as nobody knows which these are.

    Answers that are not numbers end the attack. On the CPU they do at once; elsewhere a look at every answer would make
    the host wait for the device, so the device takes note, and `check` looks.
    """

    def __init__(
        self,
        network: nn.Module,
        engine: AttackEngine,
        device: torch.device,
        counter: Counter,
        deferred: bool | None = None,
    ) -> None:
        network.eval()
        ours = is_ours(network)
        self._counter = counter
        self._channels_last = engine.with_layout(ours).layout == "channels_last"
        self._exact = _Passes(crafting_network(network, engine), engine, device, deferred)
        self._low = self._exact
        if engine.precision == "bf16":
            self._low = _Passes(
                crafting_network(network, engine, low=True), engine, device, deferred, autocast=not ours
            )

    def __call__(self, images: Tensor) -> Tensor:
        self._counter.count(images)
        layout = torch.channels_last if self._channels_last else torch.contiguous_format
        passes = self._low if _differentiated(images) else self._exact
        return passes(images.contiguous(memory_format=layout))

    def check(self) -> None:
        """Raise `RunError` if an answer since the last look was not a number."""
        for passes in (self._exact, self._low):
            passes.check()


def in_engine(network: nn.Module, engine: AttackEngine, device: torch.device, counter: Counter) -> InEngine:
    """The network, put into evaluation mode, in the attack's engine. Raises `DeviceError` if a compiler is missing."""
    return InEngine(network, engine, device, counter)


class AllInEngine:
    """K networks of ours in one pass (`defenses.stacked.Stacked`), else as `InEngine`: a `defenses.views.Together`.

    Memory is contiguous, whatever the engine's layout. numbers: of the networks among the members, for messages;
    default: 0, 1 ... Raises `SpecError` if one network is not ours, or they are not of one architecture.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        engine: AttackEngine,
        device: torch.device,
        counter: Counter,
        deferred: bool | None = None,
        numbers: Sequence[int] | None = None,
    ) -> None:
        self._counter, self._networks = counter, len(networks)
        named = range(len(networks)) if numbers is None else numbers

        def passes(low: bool) -> _Passes:
            ready = _ready(networks, engine, low)
            return _Passes(Stacked(ready), engine, device, deferred, members=dict(zip(named, ready, strict=True)))

        self._exact = passes(low=False)
        self._low = passes(low=True) if engine.precision == "bf16" else self._exact

    def __call__(self, images: Tensor) -> Tensor:
        self._counter.count(images, self._networks)
        return (self._low if _differentiated(images) else self._exact)(images)

    def check(self) -> None:
        """Raise `RunError` if an answer since the last look was not a number."""
        for passes in (self._exact, self._low):
            passes.check()


def together_of(
    networks: Sequence[nn.Module], weights: Sequence[float], spec: CraftedSpec, device: torch.device, counter: Counter
) -> AllInEngine | None:
    """All networks of a probability above zero in one pass, where the engine asks for it and the view can use it."""
    if isinstance(spec, AllMembersSpec) or spec.view not in ("eot", "ensemble") or spec.engine.members == "one_by_one":
        return None
    drawn = {number: network for number, network in enumerate(networks) if weights[number] > 0}
    return AllInEngine(list(drawn.values()), spec.engine, device, counter, numbers=list(drawn))


def check(asked: Sequence[InEngine | AllInEngine]) -> None:
    """Raise `RunError` if an answer of one of them since the last look was not a number. Waits for the device."""
    for each in asked:
        each.check()


def _ready(networks: Sequence[nn.Module], engine: AttackEngine, low: bool) -> list[nn.Module]:
    """What is stacked of networks of ours: their crafting networks, in contiguous memory, all folded or none."""
    for number, network in enumerate(networks):
        if not is_ours(network):
            raise SpecError(
                f"`members: together` is for networks that rstbench builds; member {number} is a "
                f"{type(network).__name__}, which may compute more than its layers say; use `members: one_by_one`"
            )
    # Grouped convolutions do not gain from channels_last, and pooling falls back to a loop over members there.
    engine = engine.model_copy(update={"layout": "contiguous"})
    ready = [crafting_network(network, engine, low) for network in networks]
    if engine.folding and len({tuple(type(layer) for layer in each.modules()) for each in ready}) > 1:
        # A norm that cannot be folded in every member stays in all of them.
        unfolded = engine.model_copy(update={"folding": False})
        ready = [crafting_network(network, unfolded, low) for network in networks]
    return ready


class _Passes:
    """Passes through a crafting network, and a watch over their answers.

    members: those that a stacked network is made of, by number: the one to blame is named.
    """

    def __init__(
        self,
        network: nn.Module,
        engine: AttackEngine,
        device: torch.device,
        deferred: bool | None,
        autocast: bool = False,
        members: Mapping[int, nn.Module] | None = None,
    ) -> None:
        self._network, self._device, self._members = network, device, members or {}
        self._call: Callable[..., Any] = network if engine.compiler == "none" else compiled(network, device)
        # Autocast has no part in fp32, nor where the network itself was cast.
        self._engine = engine if autocast else engine.model_copy(update={"precision": "fp32"})
        self._deferred = device.type != "cpu" if deferred is None else deferred
        self._seen: Tensor | None = None
        self._image: Tensor | None = None

    def __call__(self, images: Tensor) -> Tensor:
        with numerics(self._engine, self._device):
            logits: Tensor = self._call(images)
        self._watch(images.detach(), logits.detach())
        return logits.float()

    def _watch(self, images: Tensor, logits: Tensor) -> None:
        if images.numel() == 0:
            return
        broken = logits.isnan().any(-1).flatten()
        if not self._deferred:
            if bool(broken.any()):
                self._fail(images)
            return
        # An image whose answer was no number, chosen by the device itself; of several networks, image by image of each.
        place, count = broken.to(torch.uint8).argmax(keepdim=True), images.shape[-4]
        if images.dim() > 4:
            images = images.index_select(0, place // count).squeeze(0)
        image = images.index_select(0, place % count)
        if self._seen is None or self._image is None:
            self._seen, self._image = broken.any(), image
        else:
            self._image = torch.where(self._seen, self._image, image)
            self._seen = self._seen | broken.any()

    def check(self) -> None:
        if self._seen is not None and self._image is not None and bool(self._seen):
            self._fail(self._image)
        self._seen = self._image = None

    def _fail(self, images: Tensor) -> None:
        with numerics(self._engine, self._device):
            if self._members:
                where = _member_not_finite(self._members, images)
            else:
                where = first_not_finite(self._network, images)
        raise RunError(f"under attack, the network's answers are not numbers (NaN): {where}")


def _member_not_finite(members: Mapping[int, nn.Module], images: Tensor) -> str:
    """In words, which member's answer to images (N, C, H, W), or (K, N, C, H, W) with some for each, is not a number.

    Each is asked alone, as it was before it was stacked.
    """
    for place, (number, member) in enumerate(members.items()):
        own = images[place] if images.dim() > 4 else images
        with torch.no_grad():
            broken = bool(member(own).isnan().any())
        if broken:
            return f"member {number}: {first_not_finite(member, own)}"
    return f"asked one by one, members {', '.join(map(str, members))} answer with numbers; use `members: one_by_one`"


def _differentiated(images: Tensor) -> bool:
    return images.requires_grad and torch.is_grad_enabled()
