"""What the time of a node is made of: units of work, of which a calibration measures the seconds. No torch.

A unit is named by all that its time depends on, and by nothing else: networks of one architecture share theirs,
whatever their seed, and so do attacks that differ in steps or epsilon. Units, and what their amounts count::

    step        a training image in an optimiser step, with its share of the mask's cost
    validate    a forward pass of an image in validation attacks; a gradient counts as two
    make        a network that is to be trained: drawn, and what it leaves packed
    save        a save of the state of a training
    network     a network brought from the store to the device
    attack      a forward pass of an image through one network under attack; a gradient counts as two
    predict     an image judged, in fp32
    load        a data set read and checked
    clean       an image taken from a data set
    pack        an adversarial image checked and packed
    unpack      an adversarial image unpacked
    value       a value written to the store
    worker      a worker process started
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rstbench.spec.base import canonical_json


@dataclass(frozen=True)
class Unit:
    """One unit of work. of: canonical JSON of what its time depends on."""

    what: str
    of: str

    @property
    def fields(self) -> dict[str, Any]:
        """What its time depends on."""
        found: dict[str, Any] = json.loads(self.of)
        return found


def unit(what: str, **of: Any) -> Unit:
    """The unit of what its time depends on."""
    return Unit(what, canonical_json(of))


@dataclass(frozen=True)
class Work:
    """Some of a unit.

    about: key of the node that it is measured with: the data set that is loaded, the network that is brought, or the
    node itself. held: a thing that a worker keeps, which its next nodes need not pay for again.
    """

    unit: Unit
    amount: float
    about: str
    held: tuple[str, ...] = ()


VALUE, WORKER = unit("value"), unit("worker")
