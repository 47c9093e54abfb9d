"""All claims, in the order of the paper."""

from __future__ import annotations

from rstbench.report.claims import appendices, section4, section5, section6
from rstbench.report.claims.language import Claim

CLAIMS: tuple[Claim, ...] = (
    *section4.EXISTENCE, *section4.VARIATIONS,
    *section5.TUNING, *section5.TRAINED, *section5.STRONGER,
    *section6.SWITCH, *section6.SHARING,
    *appendices.ATTACKS, *appendices.NATURAL, *appendices.TRANSFER, *appendices.SETS,
)  # fmt: skip
"""Every claim once; `id` is unique."""
