"""The quantile of the standard normal distribution with the same bits on every IEEE-754 processor.

Wichura's algorithm AS 241, PPND16 (Applied Statistics 37, 1988): rational approximations of degree 7 on three
regions, relative error about 1e-16. Only + - * / sqrt, frexp and comparisons are used, each a numpy operation of
its own, so no compiler fuses them; numpy's log has other last bits with other vector instructions, hence `_log`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# Coefficients of numerator and denominator, highest power first, as published.
_CENTRE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)  # fmt: skip
_MIDDLE = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0),
)  # fmt: skip
_FAR = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)  # fmt: skip
_LN2 = 0.6931471805599453


def normal_quantile(centred: Float64) -> Float64:
    """Phi^-1(1/2 + centred), one-dimensional, for centred in (-1/2, 1/2); odd, and of the sign of `centred`.

    The argument is the distance from the median, because 1/2 - |centred| is then the exact probability of the
    tail on both sides.
    """
    out = centred * _rational(0.180625 - centred * centred, _CENTRE)
    outer = np.flatnonzero(np.abs(centred) > 0.425)
    tail = centred[outer]
    r = np.sqrt(-_log(0.5 - np.abs(tail)))
    value = _rational(r - 1.6, _MIDDLE)
    far = np.flatnonzero(r > 5.0)
    value[far] = _rational(r[far] - 5.0, _FAR)
    out[outer] = np.copysign(value, tail)
    return out


def _rational(r: Float64, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> Float64:
    numerator, denominator = (_horner(r, part) for part in coefficients)
    numerator /= denominator
    return numerator


def _horner(r: Float64, coefficients: tuple[float, ...]) -> Float64:
    total = r * coefficients[0]
    for coefficient in coefficients[1:-1]:
        total += coefficient
        total *= r
    total += coefficients[-1]
    return total


def _log(x: Float64) -> Float64:
    """Natural logarithm of x in (0, 1/2), relative error below 1e-15.

    x = m 2^e with m in [sqrt(1/2), sqrt(2)), and ln m = 2 atanh(s) with s = (m - 1) / (m + 1), |s| < 0.172: the
    odd series up to s^23 leaves less than 1e-20.
    """
    m, e = np.frexp(x)
    low = m < 0.7071067811865476
    m = np.where(low, m + m, m)
    s = (m - 1.0) / (m + 1.0)
    series = _horner(s * s, tuple(1.0 / n for n in range(23, 0, -2)))
    return (e - low) * _LN2 + 2.0 * s * series
