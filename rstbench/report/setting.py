"""What may stand in one table, figure or list of claims: one profile, and one meaning of every name of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rstbench.errors import SpecError
from rstbench.plan import Node, Plan, PlannedCell
from rstbench.report.parts import fingerprints_behind

_SHORT = 12


def require_one_setting(plans: Sequence[Plan]) -> None:
    """Raise `SpecError` if what is to be shown together mixes profiles, or data.

    Data are told apart by their fingerprints (SHA-256 of images and labels). Rows may be of as many data sets as there
    are, but every name in the column `dataset` must stand for the same images in all of them: numbers on other images,
    or of another profile, do not belong beside each other, and nobody would see it in the rows.
    """
    require_one_profile(plans)
    meanings: dict[str, dict[tuple[str, ...], str]] = {}
    for plan in plans:
        for cell in plan.cells:
            for found in data_of(cell, plan.nodes):
                meant = meanings.setdefault(cell.columns["dataset"], {})
                meant.setdefault(found, f"{cell.run['run_dataset']} in suite {plan.suite.run.name}")
    for name, meant in meanings.items():
        if len(meant) > 1:
            listed = " and ".join(
                f"{what} (fingerprint {' '.join(each[:_SHORT] for each in found)})" for found, what in meant.items()
            )
            raise SpecError(
                f"data set {name} stands for different images: {listed}; their numbers are not shown together. "
                "Run all of it on the same data, or give one of them another name in `datasets`"
            )


def require_one_profile(plans: Sequence[Plan]) -> None:
    """Raise `SpecError` if what is to be shown together, or decides a claim together, mixes profiles."""
    profiles: dict[str, str] = {}
    for plan in plans:
        profiles.setdefault(str(plan.suite.profile), plan.suite.run.name)
    if len(profiles) > 1:
        listed = " and ".join(f"{profile} (suite {suite})" for profile, suite in profiles.items())
        raise SpecError(
            f"results of different profiles are not shown together: {listed}; they differ in networks, schedules or "
            "data, so their numbers do not compare. Ask for one profile at a time"
        )


def data_of(cell: PlannedCell, nodes: Mapping[str, Node]) -> tuple[tuple[str, ...], ...]:
    """What the cell's numbers are about: one entry of fingerprints, more only if they are about different images.

    An accuracy is about the images that were attacked, and not about data that its networks were trained on before. A
    measure that looks at no image is about the data of its networks, which are several where it is taken over tasks;
    one that follows from an architecture is about none.
    """
    images = {row[0] for grid in (*cell.predictions, *cell.held_out) for row in grid}
    found: list[tuple[str, ...]] = [(each,) for key in sorted(images) for each in fingerprints_behind(key, nodes)]
    for key in cell.values:
        members = [value for role, value in nodes[key].inputs.items() if role.startswith("member_")]
        behind = fingerprints_behind(key, nodes) or [
            each for member in members for each in fingerprints_behind(member, nodes)
        ]
        found += [tuple(dict.fromkeys(behind))] if behind else []
    return tuple(dict.fromkeys(found))
