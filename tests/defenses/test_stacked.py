from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rstbench.attacks.margin import margin
from rstbench.attacks.pgd import cross_entropy
from rstbench.defenses.stacked import Stacked
from rstbench.defenses.views import EnsembleView, ExpectationView
from rstbench.errors import SpecError
from rstbench.evaluation.batches import InParts
from rstbench.networks import build
from rstbench.networks.folding import folded
from rstbench.networks.precision import lowered
from rstbench.tickets.ticket import Ticket
from tests.networks.specs import digits
from tests.tickets.tickets import ticket

WEIGHTS = [0.5, 0.3, 0.2]
IMAGES = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(7)


def members(family: str = "preact_resnet10") -> list[nn.Module]:
    made: list[Ticket] = [ticket(digits(family, width=0.0625), seed=seed) for seed in range(3)]
    return [each.network() for each in made]


@pytest.mark.parametrize("make", [folded, lambda network: network], ids=["folded", "with batch norm"])
@pytest.mark.parametrize("family", ["preact_resnet10", "cifar_resnet18", "wide_resnet10"])
def test_answers_are_those_of_the_members(family: str, make: Callable[[nn.Module], nn.Module]) -> None:
    each = [make(member) for member in members(family)]
    together = Stacked(each)
    one_by_one = torch.stack([member(IMAGES) for member in each])
    torch.testing.assert_close(together(IMAGES), one_by_one, rtol=1e-4, atol=1e-5)
    # Images of their own for each member.
    several = torch.stack([IMAGES, IMAGES.flip(0), 1 - IMAGES])
    expected = torch.stack([member(images) for member, images in zip(each, several, strict=True)])
    torch.testing.assert_close(together(several), expected, rtol=1e-4, atol=1e-5)


def test_in_low_precision() -> None:
    each = [lowered(folded(member)) for member in members()]
    found = Stacked(each)(IMAGES)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.stack([member(IMAGES) for member in each]), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("criterion", [cross_entropy, margin])
@pytest.mark.parametrize("unit", [False, True], ids=["mean loss", "unit gradients"])
def test_expectation(unit: bool, criterion: Callable[[Tensor, Tensor], Tensor]) -> None:
    each = [folded(member).double() for member in members()]
    images = IMAGES.double()
    expected = ExpectationView(each, WEIGHTS, unit).step(images, LABELS, criterion)
    view = ExpectationView(each, WEIGHTS, unit, Stacked(each))
    found = view.step(images, LABELS, criterion)
    torch.testing.assert_close(found.gradient, expected.gradient, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.loss, expected.loss, check_dtype=False)
    assert torch.equal(found.standing, expected.standing)
    assert not found.gradient.requires_grad and not found.loss.requires_grad
    torch.testing.assert_close(view.logits(images), ExpectationView(each, WEIGHTS).logits(images))


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_ensemble(average: str) -> None:
    each = [folded(member).double() for member in members()]
    images = IMAGES.double()
    expected = EnsembleView(each, WEIGHTS, average).step(images, LABELS, cross_entropy)
    found = EnsembleView(each, WEIGHTS, average, Stacked(each)).step(images, LABELS, cross_entropy)
    torch.testing.assert_close(found.gradient, expected.gradient, rtol=1e-9, atol=1e-12)
    assert torch.equal(found.standing, expected.standing)


def test_members_of_probability_zero_are_not_in_the_stack() -> None:
    each = [folded(member) for member in members()]
    weights = [0.5, 0.0, 0.5]
    view = ExpectationView(each, weights, together=Stacked([each[0], each[2]]))
    expected = ExpectationView(each, weights).step(IMAGES, LABELS, cross_entropy)
    torch.testing.assert_close(view.step(IMAGES, LABELS, cross_entropy).loss, expected.loss, rtol=1e-4, atol=1e-5)


def test_memory_is_split_as_ever() -> None:
    each = [folded(member) for member in members()]
    together, sizes = Stacked(each), []

    def short(images: Tensor) -> Tensor:
        sizes.append(images.shape[-4])
        if images.shape[-4] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        answers: Tensor = together(images)
        return answers

    view = InParts(ExpectationView(each, WEIGHTS, together=short), 7)
    found = view.step(IMAGES, LABELS, cross_entropy)
    assert view.batch == 1 and sizes[:2] == [7, 3] and max(sizes[2:]) == 1
    whole = ExpectationView(each, WEIGHTS).step(IMAGES, LABELS, cross_entropy)
    torch.testing.assert_close(found.gradient, whole.gradient, rtol=1e-3, atol=1e-6)


def test_the_members_are_left_as_they_are() -> None:
    each = members()
    before = [{name: value.clone() for name, value in member.state_dict().items()} for member in each]
    Stacked(each)(IMAGES)
    for member, state in zip(each, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in member.state_dict().items())


def test_other_architectures_are_refused() -> None:
    (first, *_) = members()
    wider = ticket(digits("preact_resnet10", width=0.125)).network()
    deeper = ticket(digits("preact_resnet18", width=0.0625)).network()
    coarser = members()[1]
    coarser.bn.eps = 1e-3  # type: ignore[union-attr]
    affine = build(digits("preact_resnet10", width=0.0625, bn_affine=True)).eval()
    for other in (wider, deeper, coarser, affine):
        with pytest.raises(SpecError, match=r"one architecture; member 1 .*one_by_one"):
            Stacked([first, other])
