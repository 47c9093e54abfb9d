from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rstbench.attacks.draws import PerImage
from rstbench.attacks.threat import Threat, ascend, distances, project, random_start
from tests.attacks.networks import images


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projection_keeps_what_is_inside_and_shrinks_what_is_not(norm: str) -> None:
    clean = torch.full((2, 1, 3, 3), 0.5)
    delta = torch.zeros_like(clean)
    delta[0, 0, 0, 0], delta[1, 0, 0, 0], delta[1, 0, 1, 1] = 0.05, -0.3, 0.4
    result = project(clean + delta, clean, Threat(norm, 0.1)) - clean
    assert torch.allclose(result[0], delta[0], atol=1e-7)
    expected = delta[1].clamp(-0.1, 0.1) if norm == "linf" else delta[1] / 5
    assert torch.allclose(result[1], expected, atol=1e-7)


def test_projection_ends_in_the_range_of_pixels() -> None:
    clean = torch.tensor([0.0, 1.0, 0.98]).view(1, 1, 1, 3)
    result = project(clean + torch.tensor([-0.05, 0.05, 0.05]).view(1, 1, 1, 3), clean, Threat("linf", 0.1))
    assert result.flatten().tolist() == [0.0, 1.0, 1.0]


def test_l2_projection_spends_the_budget_that_clipping_leaves() -> None:
    clean = torch.tensor([1.0, 0.5, 0.5]).view(1, 1, 1, 3)
    moved = clean + torch.tensor([0.9, 0.3, 0.4]).view(1, 1, 1, 3)
    result = (project(moved, clean, Threat("l2", 0.25)) - clean).flatten()
    assert result.tolist() == pytest.approx([0.0, 0.15, 0.2])


@settings(max_examples=100, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(1e-4, 2.0),
    size=st.floats(1e-6, 10.0),
    side=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_projection_lands_in_the_ball_and_stays_there(
    norm: str, epsilon: float, size: float, side: int, seed: int
) -> None:
    threat = Threat(norm, epsilon)
    clean = images(3, side=side, seed=seed)
    once = project(clean + size * torch.randn(clean.shape, generator=generator(seed)), clean, threat)
    linf, l2 = distances(once, clean)
    assert float((linf if norm == "linf" else l2).max()) <= epsilon + 1e-6
    assert float(once.min()) >= 0 and float(once.max()) <= 1
    assert torch.allclose(project(once, clean, threat), once, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e-25, 1e-37, 1e25])
def test_a_step_has_its_length_however_small_the_gradient(scale: float) -> None:
    start = torch.full((4, 3, 5, 5), 0.5)
    gradient = torch.randn(start.shape, generator=generator()) * scale
    linf, _ = distances(ascend(start, gradient, 0.01, Threat("linf", 1.0)), start)
    _, l2 = distances(ascend(start, gradient, 0.01, Threat("l2", 1.0)), start)
    assert linf.tolist() == pytest.approx([0.01] * 4, rel=1e-4)
    assert l2.tolist() == pytest.approx([0.01] * 4, rel=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_zero_gradient_moves_nothing(norm: str) -> None:
    start = images(2)
    assert torch.equal(ascend(start, torch.zeros_like(start), 0.1, Threat(norm, 1.0)), start)


def test_linf_start_is_uniform_in_the_cube() -> None:
    clean = torch.full((200, 1, 5, 5), 0.5)
    noise = ((random_start(clean, Threat("linf", 0.1), PerImage(3, range(200))) - clean) / 0.1).flatten()
    assert stats.kstest(noise.numpy(), stats.uniform(-1, 2).cdf).pvalue > 0.01


def test_l2_start_is_uniform_in_the_ball() -> None:
    clean = torch.full((4000, 1, 2, 2), 0.5)
    noise = ((random_start(clean, Threat("l2", 0.4), PerImage(4, range(4000))) - clean) / 0.4).flatten(1).double()
    radius = noise.norm(dim=1)
    # In a ball of 4 dimensions the 4th power of the radius is uniform, and so are all directions.
    assert stats.kstest((radius**4).numpy(), "uniform").pvalue > 0.01
    direction = noise / radius[:, None]
    assert float(direction.mean(0).abs().max()) < 4 / math.sqrt(4 * 4000)
    assert torch.allclose(direction.T @ direction / 4000, torch.eye(4, dtype=torch.float64) / 4, atol=0.02)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_starts_depend_on_seed_and_image_alone_and_are_clipped(norm: str) -> None:
    clean, threat = images(3), Threat(norm, 0.5)
    start = random_start(clean, threat, PerImage(1, [7, 8, 9]))
    assert torch.equal(start, random_start(clean, threat, PerImage(1, [7, 8, 9])))
    assert torch.equal(start[[2, 0]], random_start(clean[[2, 0]], threat, PerImage(1, [9, 7])))
    assert not torch.equal(start, random_start(clean, threat, PerImage(2, [7, 8, 9])))
    assert not torch.equal(start, random_start(clean, threat, PerImage(1, [7, 8, 10])))
    assert float(start.min()) >= 0 and float(start.max()) <= 1
    assert random_start(clean[:0], threat, PerImage(1, [])).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_zero_ball_is_its_centre(norm: str) -> None:
    clean, threat = images(4), Threat(norm, 0.0)
    assert torch.equal(random_start(clean, threat, PerImage(1, range(4))), clean)
    assert torch.equal(project(1 - clean, clean, threat), clean)


def test_distances() -> None:
    clean = torch.zeros(2, 1, 2, 2)
    moved = clean.clone()
    moved[0, 0, 0], moved[1, 0, 1, 1] = torch.tensor([0.3, 0.4]), 1.0
    linf, l2 = distances(moved, clean)
    assert linf.tolist() == pytest.approx([0.4, 1.0]) and l2.tolist() == pytest.approx([0.5, 1.0])
    assert linf.dtype == l2.dtype == torch.float64
