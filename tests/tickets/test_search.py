from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from rstbench.errors import SpecError
from rstbench.networks import build
from rstbench.networks.init import fans, initialise, kaiming_uniform_scores
from rstbench.spec.models import PATTERNS
from rstbench.spec.training import InnerAttack, SearchSpec
from rstbench.tickets.mask import maskable, unit_shape
from rstbench.tickets.ratios import kept_by_layer
from rstbench.tickets.search import Scores
from rstbench.training import Run, generator, inner_images
from tests.networks.specs import digits, spec

CPU = torch.device("cpu")
LR = 0.1


class StraightThrough(torch.autograd.Function):
    """Sort, zero the front, keep the rest; the identity backward. In every forward pass, as the authors' code does."""

    @staticmethod
    def forward(ctx: Any, ranked: Tensor, remaining_ratio: float) -> Tensor:
        flat = ranked.flatten()
        order = torch.sort(flat, stable=True).indices
        mask = torch.ones_like(flat)
        mask[order[: int((1 - remaining_ratio) * len(flat))]] = 0.0
        return mask.view_as(ranked)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class PlainSearch:
    """The search written without any shortcut: the mask in the graph of every forward pass, full backward passes."""

    def __init__(self, network: nn.Module, ratio: float, pattern: str, spec: SearchSpec, seed: int) -> None:
        self.network, self.ratio, self.spec = network, ratio, spec
        self.theta = {name: weight.detach().clone() for name, weight in maskable(network).items()}
        self.scores: dict[str, Tensor] = {}
        for name, theta in self.theta.items():
            start = kaiming_uniform_scores(
                seed, name, unit_shape(tuple(theta.shape), pattern), fans(tuple(theta.shape))[0]
            )
            self.scores[name] = torch.from_numpy(start).requires_grad_(True)
        self.optimiser = torch.optim.SGD(
            self.scores.values(), lr=LR, momentum=spec.momentum, weight_decay=spec.weight_decay
        )

    def forward(self, images: Tensor) -> Tensor:
        weights = {}
        for name, scores in self.scores.items():
            mask = StraightThrough.apply(scores.abs() if self.spec.rank == "abs_score" else scores, self.ratio)
            theta = self.theta[name]
            weights[name] = theta * mask.view(*mask.shape, *([1] * (theta.dim() - mask.dim())))
        logits: Tensor = functional_call(self.network, weights, (images,))
        return logits

    def attack(self, clean: Tensor, labels: Tensor, noise: torch.Generator) -> Tensor:
        inner = self.spec.inner
        if inner.kind == "none":
            return clean
        epsilon = 8 / 255
        step = {"pgd": 2 / 255, "fgsm": 8 / 255, "fgsm_rs": 10 / 255}[inner.kind]
        images = clean
        if inner.kind != "fgsm":
            images = (clean + (torch.rand(clean.shape, generator=noise) * 2 - 1) * epsilon).clamp(0, 1)
        for _ in range(inner.steps if inner.kind == "pgd" else 1):
            images = images.detach().requires_grad_(True)
            functional.cross_entropy(self.forward(images), labels, reduction="sum").backward()
            assert images.grad is not None
            images = images.detach() + step * images.grad.sign()
            images = (clean + (images - clean).clamp(-epsilon, epsilon)).clamp(0, 1)
        return images

    def step(self, images: Tensor, labels: Tensor, noise: torch.Generator) -> Tensor:
        self.network.train(self.spec.inner_bn == "train")
        images = self.attack(images, labels, noise)
        self.network.train()
        self.optimiser.zero_grad()
        loss = functional.cross_entropy(self.forward(images), labels, reduction="none").mean()
        loss.backward()
        self.optimiser.step()
        return loss.detach()


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Stricter than torch.equal: 0 and -0 differ."""
    return one.dtype == other.dtype and one.detach().numpy().tobytes() == other.detach().numpy().tobytes()


def network_of(model: Any) -> nn.Module:
    network = build(model)
    initialise(network, "signed_kaiming_constant", 7)
    return network


@pytest.mark.parametrize("inner_bn", ["train", "eval"])
@pytest.mark.parametrize("kind", ["pgd", "fgsm", "fgsm_rs", "none"])
def test_the_search_step_has_the_bits_of_the_plain_one(kind: str, inner_bn: str) -> None:
    settings = SearchSpec(inner=InnerAttack(kind=kind, steps=3), inner_bn=inner_bn)
    _compare(spec("preact_resnet10", width=0.125, image_size=16), settings, "element", 0.2)


@pytest.mark.parametrize("rank", ["abs_score", "score"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_so_it_has_for_every_pattern_and_rank(pattern: str, rank: str) -> None:
    settings = SearchSpec(inner=InnerAttack(steps=3), rank=rank)
    _compare(digits("preact_resnet10", width=0.0625), settings, pattern, 0.5, ties=True)


def _compare(model: Any, settings: SearchSpec, pattern: str, ratio: float, ties: bool = False) -> None:
    subject = Scores(network_of(model), ratio, pattern, settings, seed=7)
    run = Run(subject, settings, seed=7, device=CPU)
    plain = PlainSearch(network_of(model), ratio, pattern, settings, seed=7)
    if ties:  # of many scores at the threshold, both must keep the same
        for variables in (subject.variables, plain.scores):
            for scores in variables.values():
                bound = scores.detach().abs().max()
                scores.data = scores.detach().sign() * (scores.detach().abs() / bound * 4).ceil() * (bound / 4)
    started = {name: scores.detach().clone() for name, scores in subject.variables.items()}
    random = torch.Generator().manual_seed(11)
    for number in range(3):
        images = torch.rand(8, model.channels, model.image_size, model.image_size, generator=random)
        labels = torch.randint(model.classes, (8,), generator=random)
        loss = run.step(images, labels, LR, generator(7, "step", number))
        expected = plain.step(images, labels, generator(7, "step", number))
        assert same_bits(loss, expected)
    for name, scores in subject.variables.items():
        assert not torch.equal(scores, started[name])
        assert same_bits(scores, plain.scores[name]), name
    buffers = dict(plain.network.named_buffers())
    assert any(name.endswith("running_var") for name in buffers)
    for name, buffer in subject.network.named_buffers():
        assert same_bits(buffer, buffers[name]), name


def test_inner_steps_leave_running_statistics_alone_only_in_eval_mode() -> None:
    counted = {}
    for mode in ("train", "eval"):
        subject = Scores(network_of(digits("preact_resnet10", width=0.0625)), 0.5, "element", SearchSpec(), seed=0)
        settings = SearchSpec(inner=InnerAttack(steps=3), inner_bn=mode)
        run = Run(subject, settings, seed=0, device=CPU)
        run.step(torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64), LR, generator(0))
        counted[mode] = int(dict(subject.network.named_buffers())["bn.num_batches_tracked"])
    assert counted == {"train": 4, "eval": 1}


def test_theta_stays_and_only_scores_move() -> None:
    network = network_of(digits("preact_resnet10", width=0.0625, bn_affine=True, classifier_bias=True))
    theta = {name: value.detach().clone() for name, value in network.named_parameters()}
    subject = Scores(network, 0.5, "row", SearchSpec(), seed=0)
    run = Run(subject, SearchSpec(inner=InnerAttack(kind="none")), seed=0, device=CPU)
    for number in range(2):
        run.step(torch.rand(4, 1, 8, 8), torch.arange(4), LR, generator(number))
    subject.refresh()
    masks = subject.masks()
    for name, value in network.named_parameters():
        if name in masks:
            mask = masks[name].view(*masks[name].shape, *([1] * (value.dim() - masks[name].dim())))
            assert torch.equal(value, theta[name] * mask), name
        else:  # scale and shift of batch norm, bias of the classifier
            assert torch.equal(value, theta[name]), name


def test_a_snapshot_is_a_copy_of_masks_and_buffers() -> None:
    subject = Scores(network_of(digits("preact_resnet10", width=0.0625)), 0.5, "element", SearchSpec(), seed=0)
    subject.refresh()
    taken = subject.snapshot()
    copy = {name: value.clone() for name, value in taken.items()}
    run = Run(subject, SearchSpec(lr=10.0, inner=InnerAttack(kind="none")), seed=0, device=CPU)
    for number in range(3):
        run.step(torch.rand(4, 1, 8, 8), torch.arange(4), 10.0, generator(number))
    subject.refresh()
    assert {name.split("/")[0] for name in taken} == {"mask", "buffer"}
    assert all(torch.equal(taken[name], copy[name]) for name in taken)
    assert any(not torch.equal(taken[name], value) for name, value in subject.snapshot().items())


def test_channels_last_keeps_the_same_mask_and_close_scores() -> None:
    scores = []
    for layout in ("contiguous", "channels_last"):
        network = network_of(digits("preact_resnet10", width=0.125))
        memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        network.to(memory_format=memory_format)
        settings = SearchSpec(inner=InnerAttack(kind="none"), engine={"layout": layout})
        subject = Scores(network, 0.5, "element", SearchSpec(), seed=0)
        run = Run(subject, settings, seed=0, device=CPU)
        images = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        run.step(images, torch.arange(8), LR, generator(0))
        scores.append(subject.variables)
    for name, value in scores[0].items():
        torch.testing.assert_close(value, scores[1][name], rtol=1e-4, atol=1e-4)


def test_scores_start_smaller_by_their_scale() -> None:
    model = digits("preact_resnet10", width=0.0625)
    plain = Scores(network_of(model), 0.5, "element", SearchSpec(), seed=0).variables
    small = Scores(network_of(model), 0.5, "element", SearchSpec(score_scale=0.25), seed=0).variables
    assert all(torch.equal(small[name], 0.25 * value) for name, value in plain.items())


def test_a_power_law_gives_each_layer_its_share() -> None:
    settings = SearchSpec(layer_power=0.1)
    subject = Scores(network_of(digits("preact_resnet10", width=0.125)), 0.05, "element", settings, seed=0)
    shares = {name: float(mask.float().mean()) for name, mask in subject.masks().items()}
    kept = kept_by_layer(maskable(subject.network), 0.05, "element", 0.1)
    assert {name: int(mask.sum()) for name, mask in subject.masks().items()} == kept
    assert shares["stem.weight"] == 1.0 and min(shares.values()) < 0.05


def test_the_last_batch_norm_is_trained_beside_the_scores() -> None:
    model = digits("preact_resnet10", width=0.0625, last_bn_affine=True)
    settings = SearchSpec(last_bn_affine=True, inner=InnerAttack(kind="fgsm_rs"))
    subject = Scores(network_of(model), 0.5, "element", settings, seed=7)
    run = Run(subject, settings, seed=7, device=CPU)
    reference = network_of(model)  # the same masks, with scale and shift trained by plain SGD
    with torch.no_grad():
        for name, mask in subject.masks().items():
            maskable(reference)[name].mul_(mask)
    norm = reference.get_submodule("bn")
    optimiser = torch.optim.SGD(
        norm.parameters(), lr=LR, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    images, labels = torch.rand(8, 1, 8, 8), torch.arange(8)
    reference.train()
    adversarial = inner_images(reference, images, labels, settings.inner, generator(7))
    optimiser.zero_grad()
    functional.cross_entropy(reference(adversarial), labels).backward()
    optimiser.step()
    run.step(images, labels, LR, generator(7))
    for name in ("weight", "bias"):
        mine = subject.network.get_parameter(f"bn.{name}")
        torch.testing.assert_close(mine, norm.get_parameter(name))
        assert not torch.equal(mine, torch.full_like(mine, float(name == "weight")))
    taken = {name: value for name, value in subject.snapshot().items() if name.startswith("parameter/")}
    assert taken.keys() == {"parameter/bn.weight", "parameter/bn.bias"}
    assert all(torch.equal(value, subject.network.get_parameter(name[10:])) for name, value in taken.items())


def test_a_network_without_affine_last_norm_is_refused() -> None:
    with pytest.raises(SpecError, match=r"last batch norm \(bn\) has no scale and shift.*last_bn_affine"):
        Scores(network_of(digits("preact_resnet10", width=0.0625)), 0.5, "element", SearchSpec(last_bn_affine=True), 0)
    with pytest.raises(SpecError, match="Sequential does not say which batch norm is its last"):
        Scores(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), 0.5, "element", SearchSpec(last_bn_affine=True), 0)
