"""Adversaries that make no images but choose among those of other attacks; and the union of all attacks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rstbench.spec.attack_fields import Reported
from rstbench.spec.attacks import CleanSpec, CraftedSpec
from rstbench.spec.base import Count, Name


class WorstSourceSpec(Reported):
    """The source member whose images do most damage, chosen once for all images (view member of a switch)."""

    kind: Literal["worst_source"]
    of: Name = Field(description="key in `attacks`")


class AnyOfSpec(Reported):
    """The adversary may try several times: an image falls if any of the tries meets a member that errs."""

    kind: Literal["any_of"]
    of: Name = Field(description="key in `attacks`")
    tries: Annotated[int, Field(ge=2)] = 10


class PointwiseSpec(Reported):
    """Pointwise worst case: for each image the attack, and source, under which its expected accuracy is lowest."""

    kind: Literal["pointwise"]
    over: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)] = Field(description="keys in `attacks`")


class GameSpec(Reported):
    """The game's value: the defense commits to member probabilities, the adversary knows them and picks per image.

    The probabilities are fitted on held-out images (the validation part of the training set) and scored on the test
    images: an upper bound on the robust accuracy of any mixture of these members.

    commits: `member` leaves the defense no mixture: it commits to the one member that does best on the held-out images
    against just this adversary. So a switch and its best single member are compared on equal images, and the member is
    not chosen on those that are scored.
    """

    kind: Literal["game"]
    over: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)] = Field(description="keys in `attacks`")
    held_out: Count = Field(500, description="images of the validation part that the probabilities are fitted on")
    commits: Literal["mixture", "member"] = Field("mixture", description="to probabilities, or to one member")


DerivedSpec = WorstSourceSpec | AnyOfSpec | PointwiseSpec | GameSpec
"""Adversaries that choose among images that other attacks of the suite have made."""

DERIVED = ("worst_source", "any_of", "pointwise", "game")
"""Their kinds."""

AttackSpec = Annotated[CleanSpec | CraftedSpec | DerivedSpec, Field(discriminator="kind")]


def chosen_from(attack: DerivedSpec) -> tuple[str, ...]:
    """Keys of the attacks whose images a derived attack chooses among."""
    return attack.over if isinstance(attack, PointwiseSpec | GameSpec) else (attack.of,)
