"""The base of all specs, and the scalar types they share. No torch here."""

from __future__ import annotations

import hashlib
import json
import re
from fractions import Fraction
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Spec(BaseModel):
    """A frozen description. Unknown fields are refused; equal specs have equal canonical JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    later: ClassVar[frozenset[str]] = frozenset()
    """Fields that came after the first results: left out of keys while they have their default (`written`)."""

    def written(self) -> dict[str, Any]:
        """The JSON form that keys and files carry: defaults written out, but for those of `later` fields.

        What was computed before a field existed is what its default asks for, and keeps its key.
        """
        return self.model_dump(mode="json", exclude=self._unchanged())

    def _unchanged(self) -> dict[str, Any]:
        """`later` fields at their defaults, here and in the specs that are fields of this one."""
        fields = type(self).model_fields
        same: dict[str, Any] = {}
        for name in fields:
            value = getattr(self, name)
            if name in self.later and value == fields[name].get_default():
                same[name] = True
            elif isinstance(value, Spec) and (inside := value._unchanged()):
                same[name] = inside
        return same


def canonical_json(value: Any) -> str:
    """The one JSON text of `value`: keys sorted, no spaces, ASCII, no NaN. Keys of the store are hashes of it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


_FRACTION = re.compile(r"[0-9]+\s*/\s*[0-9]+")
_DECIMAL = re.compile(r"[0-9]*\.?[0-9]+")


def linf_text(value: Any) -> str:
    """An l-infinity distance as a reduced fraction in text. Raises ValueError saying what is allowed."""
    if isinstance(value, bool) or not isinstance(value, str):
        raise ValueError(
            'an l-infinity distance is text: a fraction such as "8/255" or a decimal such as "0.03"; '
            "bare numbers are refused because 8, 0.03 and 8/255 get confused"
        )
    text = value.strip()
    if not (_FRACTION.fullmatch(text) or _DECIMAL.fullmatch(text)):
        raise ValueError('not a distance; write a fraction such as "8/255" or a decimal such as "0.03"')
    try:
        number = Fraction(text.replace(" ", ""))
    except ZeroDivisionError:
        raise ValueError("the denominator is zero") from None
    if not 0 <= number <= 1:
        raise ValueError(f"an l-infinity distance lies in [0, 1] (images are in [0, 1]); this is {float(number):g}")
    # "16/510" and "8/255" are the same distance and must get the same key.
    return f"{number.numerator}/{number.denominator}"


LinfDistance = Annotated[
    str,
    BeforeValidator(linf_text),
    Field(description='l-infinity distance in [0, 1] as text: "8/255" or "0.03"', examples=["8/255", "0.03"]),
]
"""An l-infinity distance, kept as a reduced fraction in text, e.g. "8/255"."""


def distance(value: str | float) -> float:
    """The number behind a distance: of the fraction's text for l-infinity, the number itself for L2."""
    return float(Fraction(value)) if isinstance(value, str) else float(value)


Ratio = Annotated[float, Field(gt=0.0, le=1.0, description="remaining ratio in (0, 1]")]


def ratio_text(ratio: float) -> str:
    """A remaining ratio as the paper's tables write it: at least two decimals."""
    text = f"{ratio:.6f}".rstrip("0")
    whole, decimals = text.split(".")
    return f"{whole}.{decimals:0<2}"


Name = Annotated[
    str,
    Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=80, description="lower-case letters, digits, . _ -"),
]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
