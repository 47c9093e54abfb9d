from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from rstbench.networks.quantile import _log, normal_quantile


def tails() -> np.ndarray:
    """Probabilities of the tail from 2^-54, the smallest there is, to 1/2, and around the seams of the algorithm."""
    grid = np.concatenate([2.0**-54 * 1.07 ** np.arange(0, 540), np.linspace(0.001, 0.4999, 4001)])
    seams = np.array([0.075, np.exp(-25.0)])
    near = (seams[:, None] * (1 + np.arange(-20, 21) * 1e-15)).ravel()
    return np.concatenate([grid[grid < 0.5], near])


def test_agrees_with_scipy_in_both_tails() -> None:
    tail = tails()
    # 1/2 - tail is exact only where tail has few bits below 2^-54; take the tail that the argument stands for.
    centred = 0.5 - tail
    centred, tail = centred[centred < 0.5], (0.5 - centred)[centred < 0.5]
    expected = ndtri(tail)
    np.testing.assert_allclose(normal_quantile(-centred), expected, rtol=1e-14, atol=0)
    np.testing.assert_array_equal(normal_quantile(centred), -normal_quantile(-centred))


def test_agrees_with_scipy_around_the_median() -> None:
    centred = (2 * np.arange(-400, 400) + 1) * 2.0**-53
    np.testing.assert_allclose(normal_quantile(centred), ndtri(0.5 + centred), rtol=1e-14, atol=0)
    centred = np.round(np.linspace(-0.43, 0.43, 8001) * 2**52) * 2.0**-52  # 1/2 + centred is exact
    np.testing.assert_allclose(normal_quantile(centred), ndtri(0.5 + centred), rtol=1e-14, atol=0)


def test_extremes_are_finite_and_signed() -> None:
    smallest = 2.0**-54
    values = normal_quantile(np.array([smallest - 0.5, -smallest, smallest, 0.5 - smallest]))
    assert np.isfinite(values).all()
    assert values[0] == -values[3] < -8 and values[1] == -values[2] < 0


def test_is_monotone() -> None:
    centred = np.sort(np.concatenate([tails() - 0.5, 0.5 - tails()]))
    centred = centred[np.abs(centred) < 0.5]
    assert (np.diff(normal_quantile(centred)) >= -1e-15).all()


def test_log_agrees_with_numpy() -> None:
    x = tails()
    np.testing.assert_allclose(_log(x), np.log(x), rtol=1e-15, atol=0)
