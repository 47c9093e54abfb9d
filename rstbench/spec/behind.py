"""What stands behind the names of a suite: the defenses that a defense is made of, their schedules, and their data."""

from __future__ import annotations

from collections.abc import Iterator

from rstbench.spec.defenses import DefenseSpec, DenseSpec, EnsembleSpec, LotterySpec, SwitchSpec
from rstbench.spec.foreign import ForeignSpec
from rstbench.spec.suite import SuiteSpec
from rstbench.spec.training import TrainingSpec


def defenses_behind(suite: SuiteSpec, name: str) -> tuple[str, ...]:
    """The defense itself, then those that it is drawn from or chooses between, each once: keys in `defenses`."""
    found: dict[str, None] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop(0)
        if one not in found:
            found[one] = None
            waiting.extend(_made_of(suite.defenses[one]))
    return tuple(found)


def _made_of(defense: DefenseSpec) -> tuple[str, ...]:
    if isinstance(defense, SwitchSpec):
        return defense.members
    if isinstance(defense, EnsembleSpec):
        return (defense.of,)
    if isinstance(defense, DenseSpec | ForeignSpec):
        return ()
    return () if defense.weights is None else (defense.weights,)


def schedules_behind(suite: SuiteSpec, name: str) -> tuple[TrainingSpec, ...]:
    """The trainings and searches that a defense takes."""
    return tuple(spec for one in defenses_behind(suite, name) for spec in _schedules(suite, suite.defenses[one]))


def _schedules(suite: SuiteSpec, defense: DefenseSpec) -> Iterator[TrainingSpec]:
    if isinstance(defense, ForeignSpec | SwitchSpec | EnsembleSpec):
        return
    if isinstance(defense, DenseSpec | LotterySpec):
        yield suite.trainings[defense.training]
        return
    yield suite.searches[defense.search]
    if defense.tuning is not None:
        yield suite.trainings[defense.tuning.training]


def datasets_behind(suite: SuiteSpec, name: str) -> tuple[str, ...]:
    """Data sets, beside the cell's own, that a defense is trained on: keys in `datasets`."""
    others = (getattr(suite.defenses[one], "weights_dataset", None) for one in defenses_behind(suite, name))
    return tuple(dict.fromkeys(other for other in others if other is not None))


def used_defenses(suite: SuiteSpec) -> tuple[str, ...]:
    """Defenses that cells of the suite name, as target or as source, and all that stand behind them."""
    named = [name for cell in suite.table.cells for name in (cell.defense, cell.source) if name is not None]
    return tuple(dict.fromkeys(one for name in dict.fromkeys(named) for one in defenses_behind(suite, name)))
