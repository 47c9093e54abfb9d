"""The rows of `rstbench.evaluate`: crafted, checked, judged, and compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rstbench.api.inputs import POINTWISE
from rstbench.attacks.threat import Threat
from rstbench.errors import DeviceError, SpecError
from rstbench.evaluation.batches import out_of_memory
from rstbench.evaluation.craft import Crafted, Target, craft, threat_of
from rstbench.evaluation.judge import check_images, predict, within
from rstbench.evaluation.target import device_of, prepared
from rstbench.plan import PlannedCell
from rstbench.report.measure import CellResult, SeedMeasurement, combine
from rstbench.report.reliability import reliability
from rstbench.report.scores import score
from rstbench.spec.attacks import AllMembersSpec, CleanSpec, CraftedSpec
from rstbench.spec.battery import named_attack
from rstbench.spec.budgets import judged_within, reported_budget
from rstbench.spec.derived import AttackSpec, DerivedSpec, PointwiseSpec

COLUMNS = (
    "attack", "variant", "norm", "eps", "accuracy", "ci_low", "ci_high", "n",
    "linf", "l2", "l2_median", "queries", "forward", "gradient", "seconds", "flags",
)  # fmt: skip
"""The columns of the frame that `evaluate` returns; see there."""


@dataclass
class Evaluation:
    """Rows so far. Cells and results are those of a suite's tables, so scores and flags follow the same rules."""

    members: Sequence[nn.Module]
    clean: Tensor
    labels: Tensor
    probabilities: Sequence[float] | None
    seed: int
    batch: int
    progress: Callable[[str, float, float], None] | None
    attacks: dict[str, AttackSpec] = field(default_factory=dict)
    results: list[CellResult] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    own_flags: list[set[str]] = field(default_factory=list)
    _right: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.members:
            raise SpecError("no model to evaluate: hand in a module, or several")
        least = int(self.labels.max()) + 1
        self.notes = set(prepared(self.members[0], self.clean, least)[1])
        self.device = device_of(self.members[0])
        self.notes |= {flag for m in self.members[1:] for flag in prepared(m, self.clean, least, self.device)[1]}
        with torch.no_grad():
            counts = {m(self.clean[:1].to(self.device)).shape[1] for m in self.members}
        if len(counts) > 1:
            raise SpecError(f"the models tell apart {sorted(counts)} classes; members of a switch share them")
        self.classes = counts.pop()
        count = len(self.members)
        given = self.probabilities
        if given is not None and (len(given) != count or min(given) < 0 or abs(sum(given) - 1) > 1e-9):
            raise SpecError(f"probabilities are {count} numbers above 0 that sum to 1, not {list(given)}")
        self.weights = tuple(given) if given is not None else (1.0 / count,) * count

    def attack(self, name: str, spec: CleanSpec | CraftedSpec) -> None:
        """Craft, check, judge, and add the row."""
        started = time.monotonic()
        self.attacks[name] = spec
        crafted: list[Crafted] = []
        sources: tuple[str, ...] = ("clean",)
        flags = set(self.notes)
        if isinstance(spec, CleanSpec):
            judged = [self.clean]
        else:
            each = not isinstance(spec, AllMembersSpec) and spec.view == "member"
            targets = [[m] for m in self.members] if each else [list(self.members)]
            sources = tuple(map(str, range(len(targets)))) if each else ("all",)
            judged = []
            for members in targets:
                made = self._craft(name, members, spec)
                check_images(made.images, self.clean, threat_of(spec))
                limit = judged_within(spec)
                judged.append(made.images if limit is None else within(made.images, self.clean, Threat(*limit)))
                crafted.append(made)
                flags |= set(made.flags)
        right = np.array([[self._predicted_right(m, each) for m in self.members] for each in judged])
        self._right[name] = right.transpose(0, 2, 1)
        norm, eps = ("", "") if isinstance(spec, CleanSpec) else reported_budget(spec)
        self._add(name, spec, norm, eps, sources, self._right[name], flags)
        self.rows[-1] |= self._cost(crafted, self._right[name]) | {"seconds": time.monotonic() - started}

    def worst_case(self, norm: str, epsilon: str | float) -> None:
        """The row of the pointwise worst case over the attacks within (norm, epsilon), where there are several."""
        budget = reported_budget(named_spec(norm, epsilon))
        over = tuple(
            name
            for name, spec in self.attacks.items()
            if isinstance(spec, CraftedSpec) and reported_budget(spec) == budget and _bounded(spec)
        )
        if len(over) < 2:
            return
        # Keys of a suite are stricter than the names one may give here.
        spec = PointwiseSpec.model_construct(kind="pointwise", over=over, report_as=None, variant="", headline=False)
        self.attacks[POINTWISE] = spec
        right = np.concatenate([self._right["none"], *(self._right[name] for name in over)])
        self._add(POINTWISE, spec, *budget, tuple(map(str, range(len(right)))), right, set(self.notes))

    def scores(self) -> dict[str, np.ndarray[Any, Any]]:
        """Expected correctness of every image, float64 (N,) in [0, 1], by the names that rows were added under."""
        found = zip(self.attacks, self.results, strict=True)
        return {name: result.seeds[0].scores for name, result in found if result.seeds[0] is not None}

    def frame(self) -> Any:
        """The rows, with the flags that follow from comparing them."""
        import pandas as pd

        compared = reliability(self.results, self.attacks, {})
        flags = [own | more for own, more in zip(self.own_flags, compared, strict=True)]
        keys = list(self.attacks)
        worst = self.attacks.get(POINTWISE)
        if isinstance(worst, PointwiseSpec):
            # What misleads one attack may mislead others in silence; on a switch as it is queried, noise is expected.
            open_to_doubt = [name for name in worst.over if getattr(self.attacks[name], "view", "") != "switch"]
            flags[keys.index(POINTWISE)] |= set().union(*(flags[keys.index(name)] for name in open_to_doubt))
        for row, found in zip(self.rows, flags, strict=True):
            row["flags"] = " ".join(sorted(found))
        return pd.DataFrame(self.rows, columns=list(COLUMNS))

    def _craft(self, name: str, members: list[nn.Module], spec: CraftedSpec) -> Crafted:
        probabilities = None if len(members) == 1 else self.weights
        target = Target(members, self.classes, self.device, probabilities)

        def told(done: float, total: float, note: str) -> None:
            if self.progress is not None:
                self.progress(name, done, total)

        try:
            return craft(target, self.clean, self.labels, range(len(self.clean)), spec, self.seed, told)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise DeviceError(
                f"attack {name}: out of memory; a smaller `batch` than {self.batch} would help"
            ) from error

    def _predicted_right(self, member: nn.Module, images: Tensor) -> np.ndarray[Any, Any]:
        predictions, _ = predict(member, images, self.batch, lambda done, total, note: None)
        right: np.ndarray[Any, Any] = (predictions == self.labels).numpy()
        return right

    def _add(
        self,
        name: str,
        spec: CleanSpec | CraftedSpec | PointwiseSpec,
        norm: str,
        eps: str,
        sources: tuple[str, ...],
        right: np.ndarray[Any, Any],
        flags: set[str],
    ) -> None:
        members = tuple(map(str, range(len(self.members))))
        cell = PlannedCell(
            columns={"attack": name, "variant": spec.variant, "norm": norm, "eps": eps},
            run={},
            seeds=(self.seed,),
            predictions=(),
            sources=sources,
            members=members,
            probabilities=self.weights,
            attack_key=name,
            headline=False,
            substitutes=(),
            score="pointwise" if isinstance(spec, PointwiseSpec) else "mean",
            attack_kind=spec.kind,
        )
        scored = score(cell, right)
        seed = SeedMeasurement(self.seed, np.arange(len(self.labels)), right, scored.scores)
        measured = combine(cell, [seed])
        self.results.append(CellResult(cell, (seed,), measured))
        self.own_flags.append(flags)
        label = name if "#" in name else spec.report_as or name
        row: dict[str, Any] = {"attack": label, "variant": spec.variant, "norm": norm, "eps": eps}
        if measured is not None:
            interval = {"ci_low": measured.interval.low, "ci_high": measured.interval.high}
            row |= {"accuracy": measured.accuracy, **interval, "n": measured.n}
        self.rows.append(row)

    def _cost(self, crafted: Sequence[Crafted], right: np.ndarray[Any, Any]) -> dict[str, Any]:
        if not crafted:
            return {}
        pairs = [check_images(each.images, self.clean, None) for each in crafted]
        n = len(self.clean)
        row: dict[str, Any] = {
            "linf": 255 * float(torch.stack([linf for linf, _ in pairs]).mean()),
            "l2": float(torch.stack([l2 for _, l2 in pairs]).mean()),
            "forward": sum(each.forward or 0 for each in crafted) / n,
            "gradient": sum(each.gradient or 0 for each in crafted) / n,
        }
        fooled = (right.mean(axis=2) < 1.0) & (self._right["none"][0].mean(axis=1) == 1.0)
        if fooled.any():
            row["l2_median"] = float(np.median(np.stack([l2.numpy() for _, l2 in pairs])[fooled]))
        asked = [each.queries for each in crafted]
        if all(queries is not None for queries in asked):
            counts = np.stack([queries.numpy() for queries in asked if queries is not None])
            row["queries"] = float(np.median(counts[fooled])) if fooled.any() else float("nan")
        return row


def named_spec(norm: str, epsilon: str | float) -> CraftedSpec:
    """An attack of this budget. Raises `SpecError` if epsilon does not fit the norm."""
    spec = named_attack("pgd20", norm, epsilon)
    assert not isinstance(spec, CleanSpec | DerivedSpec)
    return spec


def _bounded(spec: CraftedSpec) -> bool:
    return threat_of(spec) is not None or judged_within(spec) is not None
