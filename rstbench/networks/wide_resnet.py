"""Wide residual networks WRN-depth-k (Zagoruyko and Komodakis 2016), without dropout.

`width` 1 is widen factor 10: WRN-34-10 has 46.2 M parameters and is what the paper calls WideResNet32; `width` 0.1
is WRN-34-1. The stem has 16 channels at every published widen factor, and only below WRN-34-1 does it shrink too.
"""

from __future__ import annotations

from rstbench.networks.preact import PreActStages
from rstbench.networks.spec import ModelSpec, scaled

_WIDEN = 10


class WideResNet(PreActStages):
    """Three stages of (depth - 4) / 6 pre-activation blocks each; depth 34, 16 or 10."""

    def __init__(self, spec: ModelSpec, depth: int) -> None:
        widen = _WIDEN * spec.width
        base = [scaled(channels, widen) for channels in (16, 32, 64)]
        super().__init__(spec, scaled(16, min(1.0, widen)), tuple(zip(base, (1, 2, 2), strict=True)), (depth - 4) // 6)
