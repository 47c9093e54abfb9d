from __future__ import annotations

import pytest
import torch
from scipy import stats

from rstbench.attacks.draws import Draws, PerImage, Shared, handed


def of(kind: str, seed: int, count: int) -> Draws:
    if kind == "per_image":
        return PerImage(seed, range(count))
    return Shared(torch.Generator().manual_seed(seed), count)


@pytest.mark.parametrize("kind", ["per_image", "shared"])
@pytest.mark.parametrize("law", ["uniform", "normal"])
def test_numbers_are_what_their_name_says(kind: str, law: str) -> None:
    drawn = getattr(of(kind, 3, 400), law)((2, 5))
    assert drawn.shape == (400, 2, 5) and drawn.dtype == torch.float32 and drawn.device.type == "cpu"
    assert stats.kstest(drawn.flatten().numpy(), "uniform" if law == "uniform" else "norm").pvalue > 0.01
    # Neighbouring images draw from neighbouring numbers; their draws must be independent all the same.
    flat = drawn.flatten(1).double()
    flat = (flat - flat.mean()) / flat.std()
    assert abs(float((flat[:-1] * flat[1:]).mean())) < 4 / (399 * 10) ** 0.5


@pytest.mark.parametrize("kind", ["per_image", "shared"])
def test_shapes_seeds_and_progress(kind: str) -> None:
    draws, again, other = of(kind, 1, 3), of(kind, 1, 3), of(kind, 2, 3)
    assert len(draws) == 3 and draws.uniform(()).shape == (3,)
    first, second = draws.uniform((4,)), draws.uniform((4,))
    again.uniform(())
    assert torch.equal(first, again.uniform((4,))) and not torch.equal(first, second)
    other.uniform(())
    assert not torch.equal(first, other.uniform((4,)))
    empty = of(kind, 1, 0)
    assert len(empty) == 0 and empty.uniform((2, 2)).shape == empty.normal((2, 2)).shape == (0, 2, 2)


def test_what_an_image_draws_depends_on_its_number_alone() -> None:
    together = PerImage(5, [10, 11, 12]).normal((6,))
    assert torch.equal(PerImage(5, [12]).normal((6,))[0], together[2])
    assert torch.equal(PerImage(5, [12, 10, 12]).normal((6,)), together[[2, 0, 2]])
    assert len({tuple(row.tolist()) for row in PerImage(5, range(1000)).uniform((3,))}) == 1000


def test_rows_go_on_where_their_images_are() -> None:
    draws, whole = PerImage(7, range(4)), PerImage(7, range(4))
    rounds = [whole.uniform((2,)) for _ in range(3)]
    assert torch.equal(draws.uniform((2,)), rounds[0])
    part = draws.rows(torch.tensor([3, 1]))
    assert len(part) == 2 and torch.equal(part.uniform((2,)), rounds[1][[3, 1]])
    # Those that were asked are one round ahead now.
    assert torch.equal(draws.uniform((2,)), torch.stack([rounds[n][i] for i, n in enumerate((1, 2, 1, 2))]))


def test_shared_rows_come_from_the_same_generator() -> None:
    draws = Shared(torch.Generator().manual_seed(1), 5)
    part = draws.rows(torch.tensor([4, 0]))
    plain = torch.Generator().manual_seed(1)
    assert len(part) == 2 and torch.equal(part.uniform((3,)), torch.rand(2, 3, generator=plain))
    assert torch.equal(draws.normal((3,)), torch.randn(5, 3, generator=plain))


@pytest.mark.parametrize("shape", [(3, 8, 8), (64, 8), (5,), ()])
def test_numbers_are_those_of_each_generator_however_many_are_drawn(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [PerImage(3, [image]) for image in range(33)]
    expected = [torch.cat([getattr(each, kind)(shape) for each in alone]) for kind in ("uniform", "normal", "uniform")]
    for large in (2**30, 1):  # in one thread, and in several
        monkeypatch.setattr("rstbench.attacks.draws._LARGE", large)
        monkeypatch.setattr("rstbench.attacks.draws.os.cpu_count", lambda: 4)
        draws = PerImage(3, range(33))
        found = [getattr(draws, kind)(shape) for kind in ("uniform", "normal", "uniform")]
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_numbers_are_handed_over_in_the_type_of_what_they_are_for() -> None:
    drawn = PerImage(0, range(3)).normal((2, 2))
    found = handed(drawn, torch.zeros(1, dtype=torch.float64))
    assert found.dtype == torch.float64 and torch.equal(found.float(), drawn)
