"""From suite files to results: the six hops in order. What the commands `run` and `plan` do."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from rstbench.data.sources import DataFacts, facts, locate, published_facts
from rstbench.errors import DataError, DeviceError, RunError, SpecError, StoreError
from rstbench.execute.local import Outcome, Settings, execute
from rstbench.execute.progress import observer
from rstbench.foreign.identity import identify
from rstbench.nodes import Node
from rstbench.plan import Plan, merge_nodes, model_digest, plan
from rstbench.report.curves import publish_curves
from rstbench.report.figures import publish_figure
from rstbench.report.leaderboard.suites import remember
from rstbench.report.publish import Published, publish
from rstbench.report.robustbench import write_model_info
from rstbench.session_plan import expected_seconds, show_plan
from rstbench.spec import Suite, SuiteSpec, load_suite
from rstbench.spec.behind import datasets_behind, used_defenses
from rstbench.spec.foreign import ForeignSpec
from rstbench.spec.made import AXES, series_suite
from rstbench.spec.models import DatasetSpec
from rstbench.spec.suite import Cell
from rstbench.store import Store


@dataclass(frozen=True)
class Request:
    """What to work on. suites: files, or suites made elsewhere, whose profile is their own. seeds: in place of theirs.

    only: table column -> value.
    """

    suites: Sequence[Path | Suite]
    profile: str
    store: Path
    data_dir: Path | None = None
    seeds: Sequence[int] = ()
    only: Mapping[str, str] | None = None


def plans_of(request: Request, store: Store, create: bool = False, absent: list[DataError] | None = None) -> list[Plan]:
    """Load, check and plan every suite. Raises `SpecError` or `DataError` before any work is done.

    create: make the store if it is not there, so that it remembers the facts of data sets that are read now.
    absent: if given, a data set that is not there is planned with its published facts, and its error is added here.
    """
    suites = [each if isinstance(each, Suite) else load_suite(each, request.profile) for each in request.suites]
    if request.seeds:
        if len(set(request.seeds)) != len(request.seeds):
            raise SpecError("--seed: the seeds must differ")
        seeds = {"seeds": tuple(request.seeds)}
        suites = [suite.model_copy(update={"run": suite.run.model_copy(update=seeds)}) for suite in suites]
    names = [suite.run.name for suite in suites]
    if len(set(names)) != len(names):
        raise SpecError(f"two of the suites have the same name ({', '.join(names)}); their results would collide")
    known: dict[DatasetSpec, DataFacts] = {}
    if create:
        # What is read-only may hold all that is needed; if not, whoever writes first will say so.
        with contextlib.suppress(StoreError):
            store.prepare()
    cache = request.store / "facts.json" if (request.store / "format.json").exists() else None
    for suite in suites:
        for spec in needed_data(suite.run, request.only or {}):
            if spec not in known:
                known[spec] = _facts(spec, request.data_dir, cache, absent)
    models = {
        model_digest(defense): identify(defense, request.data_dir)
        for suite in suites
        for defense in (suite.run.defenses[name] for name in used_defenses(suite.run))
        if isinstance(defense, ForeignSpec)
    }
    return [plan(suite, known, request.only, models) for suite in suites]


def _facts(spec: DatasetSpec, data_dir: Path | None, cache: Path | None, absent: list[DataError] | None) -> DataFacts:
    try:
        return facts(spec, data_dir, cache)
    except DataError as error:
        published = published_facts(spec)
        if absent is None or published is None or locate(spec, data_dir) is not None:
            raise
        absent.append(error)
        return published


def needed_data(suite: SuiteSpec, only: Mapping[str, str]) -> list[DatasetSpec]:
    """The data sets that the chosen cells need, in order: their own, and those that weights behind them come from."""
    own = [name for name in suite.matrix.dataset if only.get("dataset", name) == name]
    others = [other for name in used_defenses(suite) for other in datasets_behind(suite, name)]
    others += [other for measure in suite.measures.values() for other in getattr(measure, "over", ())]
    return [suite.datasets[name] for name in dict.fromkeys([*own, *others])]


def run(request: Request, settings: Settings, out: Path | None, console: Console) -> int:
    """Run suites and publish their tables; returns the exit code.

    0: all cells run; 1: a node failed or the time limit came first (what is finished is published); 2: the failure
    was bad input. Raises errors of the `RstbenchError` tree, and `KeyboardInterrupt` after cleaning up.
    """
    store = Store(request.store)
    # What the paper's setting costs can be said before anybody has fetched the data.
    absent: list[DataError] = []
    trains = any(map(_may_train, request.suites))
    may_only_show = trains and request.profile == "paper" and settings.device is None
    plans = plans_of(request, store, create=not may_only_show, absent=absent if may_only_show else None)
    nodes = merge_nodes(plans)
    missing = {key: node for key, node in nodes.items() if not store.has(key)}
    if may_only_show and any(node.macs for node in missing.values()):
        _require_gpu(plans, store, console)
    if absent and any(node.kind == "data" for node in nodes.values()):
        raise absent[0]
    if missing:
        store.prepare()
    with contextlib.suppress(StoreError):  # a store that is only read keeps no notes
        for each, suite in zip(plans, request.suites, strict=True):
            remember(store, each, suite, request.seeds, request.only or {})
    console.print(_opening(nodes, missing), highlight=False)
    with observer(missing, console, expected_seconds(nodes, missing, store, settings.device)) as watch:
        outcome = execute(nodes, store, settings, watch)
    code = _report(outcome, missing, console)
    for each in plans:
        folder = out or Path("results") / f"{each.suite.run.name}-{each.suite.profile}"
        if out is not None and len(plans) > 1:
            folder = out / f"{each.suite.run.name}-{each.suite.profile}"
        show(publish(each, store, folder), each, console)
        _draw(each, store, folder, console)
    return code


def _draw(each: Plan, store: Store, folder: Path, console: Console) -> None:
    """The suite's figure, if it has one and all of its cells are there."""
    if each.suite.run.figure is None:
        return
    try:
        drawn = publish_figure(each, store, folder, "the same command again")
        text, style = f"figure: {', '.join(map(str, drawn.paths))}", ""
    except (SpecError, StoreError) as error:
        text, style = f"no figure: {error}", "yellow"
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def run_curves(
    request: Request,
    cell: Cell,
    axes: Sequence[str],
    settings: Settings,
    out: Path | None,
    console: Console,
    reuse: bool = False,
) -> int:
    """One attack of a suite on one of its defenses, over its steps, restarts and epsilon; returns the exit code.

    cell: which attack, defense and source; data set and network default to the first of the matrix. axes: of
    `spec.made.AXES`; empty: all. reuse: along epsilon, attack only what stands at the smaller ones. Raises `SpecError`
    for axes, attacks or defenses that do not exist, and where reuse would be no worst case.
    """
    unknown = sorted(set(axes) - set(AXES))
    if unknown:
        raise SpecError(f"--axis {unknown[0]!r}: a curve is over {', '.join(AXES)}")
    (path,) = request.suites
    suite = path if isinstance(path, Suite) else load_suite(path, request.profile)
    matrix = suite.run.matrix
    places = {"dataset": cell.dataset or matrix.dataset[0], "network": cell.network or matrix.network[0]}
    cell = cell.model_copy(update=places)
    data = suite.run.datasets.get(places["dataset"])
    largest = 1.0 if data is None else _diameter(data, request.data_dir)
    made, series = series_suite(suite, cell, axes or AXES, largest, reuse)
    asked = replace(request, suites=[made])
    folder = out or Path("results") / f"{made.run.name}-{cell.defense}-{cell.attack}{'-reuse' * reuse}-{suite.profile}"
    code = run(asked, settings, folder, console)
    store = Store(request.store)
    curves = publish_curves(plans_of(asked, store)[0], store, series, folder)
    for axis, remarks in curves.remarks.items():
        for remark in remarks:
            console.print(f"{axis}: {remark}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    if reuse:
        text = "epsilon: what fell at a smaller one is kept (--reuse); that the curve does not rise proves nothing"
        console.print(text, highlight=False, soft_wrap=True)
    console.print(f"curves: {', '.join(map(str, curves.paths))}", markup=False, highlight=False, soft_wrap=True)
    return code


def _diameter(data: DatasetSpec, data_dir: Path | None) -> float:
    """L2 distance between a black and a white image."""
    known = _facts(data, data_dir, None, [])
    return math.sqrt(known.channels) * known.image_size


def export(request: Request, out: Path, console: Console) -> int:
    """Write what the store holds of the suites as RobustBench's model_info JSON; returns the exit code.

    0: written; 1: the store holds no defense with both natural accuracy and AutoAttack.
    """
    store = Store(request.store)
    written = [path for each in plans_of(request, store, absent=[]) for path in write_model_info(each, store, out)]
    for path in written:
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    if not written:
        console.print(
            "nothing to export: an entry needs a defense with natural accuracy and AutoAttack, both in the store; "
            "run the suite first",
            soft_wrap=True,
        )
    return 0 if written else RunError.exit_code


def _may_train(suite: Path | Suite) -> bool:
    if isinstance(suite, Path):
        return True
    return not all(isinstance(suite.run.defenses[name], ForeignSpec) for name in used_defenses(suite.run))


def _opening(nodes: Mapping[str, Node], missing: Mapping[str, Node]) -> str:
    if not missing:
        return f"all {len(nodes)} nodes are in the store; nothing to compute"
    return f"{len(missing)} of {len(nodes)} nodes to compute, the others are in the store"


def _require_gpu(plans: Sequence[Plan], store: Store, console: Console) -> None:
    import torch

    if torch.cuda.is_available():
        return
    show_plan(plans, store, console)
    raise DeviceError(
        "profile paper needs a GPU and none is present. On this machine --profile desk fits (hours, two CPU cores), "
        "or --profile smoke (two minutes); --profile express needs one GPU for about an hour. "
        "Name the device (--device cpu) to start it all the same."
    )


def _report(outcome: Outcome, missing: Mapping[str, Node], console: Console) -> int:
    if outcome.timed_out:
        console.print(f"time limit reached; {len(outcome.unfinished)} nodes left. Run the same command to go on.")
    for key, failure in outcome.failures.items():
        text = f"failed: {missing[key].title}\n  {failure.message}"
        console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    waiting = len(outcome.unfinished) - len(outcome.failures)
    if outcome.failures and waiting > 0:
        console.print(f"{waiting} more nodes wait for what failed. Run the same command to try again.")
    if outcome.failures:
        return max(failure.exit_code for failure in outcome.failures.values())
    return RunError.exit_code if outcome.unfinished else 0


def show(published: Published, each: Plan, console: Console) -> None:
    """Print a table that was published, and where its files are."""
    from rstbench.report.terminal import terminal

    terminal(each, published.frame, published.answering, published.further, console, published.battery)
    console.print(f"results: {', '.join(map(str, published.paths))}", markup=False, highlight=False, soft_wrap=True)
