from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.spec.models import PATTERNS
from rstbench.spec.training import SearchSpec
from rstbench.tickets import mask as masks
from rstbench.tickets.mask import expand, kept_units, maskable, ranked, score_gradient, select, unit_shape
from rstbench.tickets.search import Scores
from rstbench.tickets.selection import select_on_host
from tests.networks.specs import spec

SHAPES = [(6, 3, 3, 3), (4, 6, 1, 1), (5, 4), (3, 2, 1, 3), (4, 2, 3), (2, 2, 2, 2, 2), (1, 1, 1, 1)]
# Few different values, so that ties at the threshold are the rule.
TIED = st.lists(st.sampled_from([-0.5, -0.25, -0.0, 0.0, 0.25, 0.5]), min_size=1, max_size=60)


def without_lowest(scores: Tensor, dropped: int) -> Tensor:
    mask = torch.ones(scores.numel(), dtype=torch.bool)
    mask[torch.sort(scores.flatten(), stable=True).indices[:dropped]] = False
    return mask.view(scores.shape)


def by_sorting(scores: Tensor, remaining_ratio: float) -> Tensor:
    """The mask as the authors' code has it, with a stable sort: the first int((1 - k) * n) units are zeroed."""
    return without_lowest(scores, int((1 - remaining_ratio) * scores.numel()))


def select_by(choose: str, scores: Tensor, kept: int) -> Tensor:
    dropped = scores.numel() - kept
    if not 0 < dropped < scores.numel():
        return select(scores, kept)
    by = {"host": select_on_host, "device": masks._select_on_device}[choose]
    return by(scores.flatten(), dropped).view(scores.shape)


@pytest.mark.parametrize("choose", ["host", "device"])
@settings(deadline=None)
@given(values=TIED, ratio=st.floats(1e-9, 1.0))
def test_equal_scores_are_kept_as_a_stable_sort_would(choose: str, values: list[float], ratio: float) -> None:
    scores = torch.tensor(values)
    kept = kept_units(len(values), ratio)
    chosen = select_by(choose, scores, kept)
    assert int(chosen.sum()) == kept
    assert torch.equal(chosen, by_sorting(scores, ratio))
    assert torch.equal(chosen, select(scores, kept))


@settings(deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    pattern=st.sampled_from(PATTERNS),
    rank=st.sampled_from(["abs_score", "score"]),
    ratio=st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_every_pattern_keeps_exactly_its_share(
    shape: tuple[int, ...], pattern: str, rank: str, ratio: float, seed: int
) -> None:
    scores = torch.randint(-4, 5, unit_shape(shape, pattern), generator=torch.Generator().manual_seed(seed)) / 4
    chosen = select(ranked(scores, rank), kept_units(scores.numel(), ratio))
    assert chosen.shape == scores.shape and chosen.dtype == torch.bool
    assert int(chosen.sum()) == scores.numel() - int((1 - ratio) * scores.numel())
    assert torch.equal(chosen, by_sorting(scores.abs() if rank == "abs_score" else scores, ratio))
    assert expand(chosen, torch.empty(shape)).expand(shape).sum() == chosen.sum() * (
        torch.empty(shape).numel() // scores.numel()
    )


def test_a_layer_as_large_as_any_ties_included() -> None:
    scores = torch.randint(0, 1000, (1 << 20,), generator=torch.Generator().manual_seed(0)).float()
    kept = kept_units(len(scores), 0.2)
    assert torch.equal(select(scores, kept), by_sorting(scores, 0.2))
    assert torch.equal(masks._select_on_device(scores, len(scores) - kept), by_sorting(scores, 0.2))


@pytest.mark.parametrize("kept", [1, 3, 29, 53])
def test_equal_scores_are_ranked_by_position_whatever_the_layout(kept: int) -> None:
    scores = torch.randint(0, 3, (3, 2, 3, 3), generator=torch.Generator().manual_seed(0)).float()
    laid_out = scores.contiguous(memory_format=torch.channels_last)
    expected = without_lowest(scores, scores.numel() - kept)
    assert torch.equal(select(laid_out, kept), expected)
    assert torch.equal(masks._select_on_device(laid_out.reshape(-1), scores.numel() - kept).view(3, 2, 3, 3), expected)
    assert select(laid_out, kept).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.gpu
def test_a_gpu_selects_the_same_units() -> None:
    random = torch.Generator().manual_seed(0)
    for scores in (torch.randint(0, 9, (4097,), generator=random).float(), torch.rand(300_000, generator=random)):
        for ratio in (0.05, 0.5, 0.99):
            kept = kept_units(len(scores), ratio)
            assert torch.equal(select(scores.cuda(), kept).cpu(), by_sorting(scores, ratio))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("spoilt", [1, 5, 10])
def test_scores_of_a_diverged_run_still_keep_exactly_k(bad: float, spoilt: int) -> None:
    scores = torch.arange(10.0)
    scores[:spoilt] = bad
    for kept in range(11):
        assert int(select(scores, kept).sum()) == kept
        assert torch.equal(select(scores, kept), without_lowest(scores, 10 - kept))


def test_a_mask_leaves_the_scores_alone() -> None:
    scores = torch.tensor([[1.0, 3.0], [2.0, torch.nan]])
    before = scores.clone()
    assert select(scores, 2).tolist() == [[False, True], [False, True]]
    assert torch.equal(scores.nan_to_num(9.0), before.nan_to_num(9.0))
    assert select(scores.t(), 2).tolist() == [[False, False], [True, True]]  # not contiguous


def test_the_share_is_counted_in_double_precision_as_the_authors_do() -> None:
    assert kept_units(10, 1.0) == 10
    assert kept_units(1, 0.05) == 1
    assert kept_units(10, 0.9) == 10  # (1 - 0.9) * 10 is 0.9999999999999998
    assert 10 - (1 - Fraction("0.9")) * 10 == 9  # and would be 1
    assert kept_units(2**40, 0.5) == 2**39
    assert kept_units(512 * 512 * 9, 0.05) == 512 * 512 * 9 - int((1 - 0.05) * (512 * 512 * 9))


@pytest.mark.parametrize(
    ("shape", "units"),
    [
        ((8, 4, 3, 5), {"element": (8, 4, 3, 5), "row": (8, 4, 3), "kernel": (8, 4), "channel": (8,)}),
        ((8, 4, 1, 1), {"element": (8, 4, 1, 1), "row": (8, 4, 1), "kernel": (8, 4), "channel": (8,)}),
        ((8, 4), {"element": (8, 4), "row": (8, 4), "kernel": (8, 4), "channel": (8,)}),
        ((8, 4, 3), {"element": (8, 4, 3), "row": (8, 4), "kernel": (8, 4), "channel": (8,)}),
        ((8, 4, 2, 3, 5), {"element": (8, 4, 2, 3, 5), "row": (8, 4, 2, 3), "kernel": (8, 4), "channel": (8,)}),
    ],
)
def test_shapes_of_units(shape: tuple[int, ...], units: dict[str, tuple[int, ...]]) -> None:
    assert {pattern: unit_shape(shape, pattern) for pattern in PATTERNS} == units


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_linear_layer_is_masked_as_the_1x1_convolution_it_is(pattern: str) -> None:
    linear, conv = nn.Linear(6, 8, bias=False), nn.Conv2d(6, 8, 1, bias=False)
    conv.weight.data.copy_(linear.weight.data[:, :, None, None])
    chosen = []
    for layer in (linear, conv):
        units = unit_shape(tuple(layer.weight.shape), pattern)
        scores = torch.randn(units, generator=torch.Generator().manual_seed(1))
        mask = select(scores.abs(), kept_units(scores.numel(), 0.3))
        chosen.append((layer.weight * expand(mask, layer.weight)).flatten())
    assert torch.equal(*chosen)


class KeepInForward(torch.autograd.Function):
    """Straight-through: the mask forward, the identity backward."""

    @staticmethod
    def forward(ctx: object, scores: Tensor, ratio: float) -> Tensor:
        return by_sorting(scores, ratio).to(scores.dtype)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


@pytest.mark.parametrize("rank", ["abs_score", "score"])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_scores_gradient_is_what_autograd_passes_through_the_mask(
    shape: tuple[int, ...], pattern: str, rank: str
) -> None:
    random = torch.Generator().manual_seed(3)
    theta, direction = torch.randn(shape, generator=random), torch.randn(shape, generator=random)
    scores = torch.randn(unit_shape(shape, pattern), generator=random)
    scores.view(-1)[0] = 0.0  # the sign of zero is zero, in both
    scores.requires_grad_(True)
    kept = KeepInForward.apply(scores.abs() if rank == "abs_score" else scores, 0.4)
    weight = theta * expand(kept, theta)
    (weight * direction).sum().backward()
    assert scores.grad is not None
    assert torch.equal(score_gradient(direction.clone(), theta, scores.detach(), rank), scores.grad)
    if len(shape) == 4:  # layers as a network in channels_last has them, beside scores of either layout
        laid_out = [each.contiguous(memory_format=torch.channels_last) for each in (direction, theta)]
        for own in (
            (scores.detach(), scores.detach().contiguous(memory_format=torch.channels_last))
            if (scores.dim() == 4)
            else (scores.detach(),)
        ):
            found = score_gradient(laid_out[0].clone(), laid_out[1], own, rank)
            torch.testing.assert_close(found, scores.grad, rtol=1e-6, atol=1e-6)


def test_torchvisions_resnet50_is_masked_without_knowing_it() -> None:
    network = build(spec("resnet50", image_size=64))
    initialise(network, "signed_kaiming_constant", 0)
    weights = maskable(network)
    assert len(weights) == 54 and set(weights) == {name for name, _ in network.named_parameters()}
    search = Scores(network, 0.2, "kernel", SearchSpec(), seed=0)
    search.refresh()
    for weight in weights.values():
        kernels = weight.shape[0] * weight.shape[1]
        assert int(weight.count_nonzero()) == kept_units(kernels, 0.2) * (weight.numel() // kernels)
    search.require_gradients(True)
    network.train()
    network(torch.rand(2, 3, 64, 64)).logsumexp(1).sum().backward()
    search.collect_gradients()
    for name, scores in search.variables.items():
        assert scores.grad is not None and scores.grad.shape == scores.shape, name
        assert scores.grad.isfinite().all() and scores.grad.count_nonzero() > 0, name


def test_maskable_finds_layers_in_any_module_and_a_bare_layer() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleDict(
                {"a": nn.Linear(3, 2), "b": nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2))}
            )

    assert list(maskable(Odd())) == ["parts.a.weight", "parts.b.0.weight"]
    assert list(maskable(nn.Linear(3, 2))) == ["weight"]


def test_layers_that_no_forward_pass_reaches_get_no_gradient() -> None:
    network = nn.ModuleDict({"used": nn.Linear(4, 3, bias=False), "idle": nn.Linear(4, 3, bias=False)})
    search = Scores(network, 0.5, "element", SearchSpec(), seed=0)
    search.refresh()
    search.require_gradients(True)
    network["used"](torch.ones(1, 4)).sum().backward()
    search.collect_gradients()
    used, idle = search.variables["used.weight"].grad, search.variables["idle.weight"].grad
    assert used is not None and used.count_nonzero() > 0
    assert idle is not None and idle.count_nonzero() == 0
