"""How many images an attack takes on at once, and how far it has come with them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from rstbench.spec.attack_fields import Bounded
from rstbench.spec.attacks import (
    AllMembersSpec,
    BanditsSpec,
    CraftedSpec,
    CwInfSpec,
    PgdSpec,
    SquareSpec,
)
from rstbench.spec.budgets import passes

BLOCK_BYTES = 64 * 2**20
"""Float32 images that are attacked in lockstep where images are left out: 5461 of CIFAR, 111 of ImageNet.

Constant, so that memory does not grow with the data set: an attack holds some ten tensors of this size.
"""
_TELL_S = 0.2


def leaves_out(spec: CraftedSpec) -> bool:
    """Whether the attack stops asking about an image before it is through with the others, each image by itself.

    Only then does it pay to attack more than a batch at once: what still stands is cut into full batches. Not where
    what becomes of an image depends on its batch (CW-L2's abort, AutoAttack's seeds, the draws of view switch).
    """
    match spec:
        case PgdSpec():
            return spec.stop == "source_fooled"
        case CwInfSpec():
            return spec.form == "penalty" and spec.view != "switch"
        case SquareSpec() | BanditsSpec():
            return spec.view != "switch"
        case _:
            return isinstance(spec, AllMembersSpec)


def block_size(spec: CraftedSpec, shape: Sequence[int]) -> int:
    """Images (of `shape`, (C, H, W)) attacked at once: a batch, or as many whole batches as fit into `BLOCK_BYTES`."""
    if not leaves_out(spec):
        return spec.batch
    return max(1, BLOCK_BYTES // (4 * math.prod(shape)) // spec.batch) * spec.batch


class Told:
    """Tells how far an attack has come, several times a second, also in the middle of a block.

    progress: (images done, all images, "images"); what it raises ends the attack. Within a block the share of passes
    done stands for the share of images: an estimate (`spec.budgets.passes`), as nobody knows who falls when.
    members: of the defense, each of which ARC and hinge ask by itself; a view is asked once.
    """

    def __init__(
        self, progress: Callable[[float, float, str], None], spec: CraftedSpec, count: int, members: int = 1
    ) -> None:
        self._progress, self._count = progress, count
        if isinstance(spec, Bounded):
            # What fell at smaller epsilons is not among the images: every one of them is attacked.
            spec = spec.model_copy(update={"smaller_epsilons": ()})
        self._each = passes(spec) * (members if isinstance(spec, AllMembersSpec) else 1)
        self._begin = self._images = 0
        self._spent = 0
        self._last = -math.inf

    def block(self, begin: int, end: int) -> None:
        """From here on, images `begin` to `end` are attacked."""
        self._begin, self._images, self._spent = begin, end - begin, 0
        self._last = time.monotonic()

    def passes(self, number: int) -> None:
        """So many more passes, in images."""
        self._spent += number
        now = time.monotonic()
        if self._images and now - self._last >= _TELL_S:
            self._last = now
            share = min(1.0, self._spent / (self._images * self._each))
            self._progress(self._begin + share * self._images, self._count, "images")

    def done(self) -> None:
        """The block is finished."""
        self._progress(self._begin + self._images, self._count, "images")
        self._images = 0
