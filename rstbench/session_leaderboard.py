"""Leaderboards of what was run on stores. What the commands `leaderboard build` and `leaderboard verify` do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from rstbench.errors import RunError, SpecError, StoreError
from rstbench.report.leaderboard.build import Built, boards, write_boards
from rstbench.report.leaderboard.challenges import verdicts_on
from rstbench.report.leaderboard.schema import Board
from rstbench.report.leaderboard.suites import Ran, file_name, remembered
from rstbench.report.leaderboard.verify import verify as check
from rstbench.report.robustbench import Entry as Info
from rstbench.report.robustbench import entries, write_entries
from rstbench.session import Request, plans_of
from rstbench.spec.base import canonical_json
from rstbench.spec.made import CURVES
from rstbench.store import Store
from rstbench.stores import Stores


@dataclass(frozen=True)
class Asked:
    """What to build from. suites: files; none: all that the stores remember. profile: of the suites, or only those."""

    stores: Sequence[Path]
    suites: Sequence[Path] = ()
    profile: str | None = None
    data_dir: Path | None = None
    seeds: Sequence[int] = ()
    only: Mapping[str, str] | None = None


def opened(paths: Sequence[Path]) -> Store:
    """One store, or several as one. Raises `StoreError` for one that is not there."""
    stores = [Store(path) for path in paths]
    for store in stores:
        if not (store.root / "format.json").exists():
            raise StoreError(f"{store.root}: no store; name one with --store, or run a suite first")
    return stores[0] if len(stores) == 1 else Stores(stores)


def suites_of(asked: Asked, store: Store) -> list[Ran]:
    """The suites to show: those that were named, else those that the store remembers.

    Raises `SpecError` where there are none, and what loading, planning and reading notes raise.
    """
    if not asked.suites:
        if asked.seeds or asked.only:
            raise SpecError("--seed and --only choose among the cells of suites; name the suites")
        # Curves are of many epsilons, each of which would be a leaderboard of its own.
        notes = remembered(store, asked.profile)
        found = [each for each in notes if each.file or not each.plan.suite.run.name.endswith(CURVES)]
        if not found:
            profile = f" under profile {asked.profile}" if asked.profile else ""
            raise SpecError(
                f"{store.root}: the store remembers no suite{profile} (stores of earlier versions never do); "
                "name the suites that were run on it, and --profile"
            )
        return found
    ran = []
    for path in asked.suites:
        root = next((root for root in store.roots if (root / "facts.json").exists()), store.root)
        request = Request([path], asked.profile or "paper", root, asked.data_dir, asked.seeds, asked.only)
        (plan,) = plans_of(request, store, absent=[])
        ran.append(Ran(plan, file_name(path), tuple(asked.seeds), dict(asked.only or {})))
    names = [each.plan.suite.run.name for each in ran]
    if len(set(names)) != len(names):
        raise SpecError(f"two of the suites have the same name ({', '.join(names)})")
    return ran


@cache
def _counted(fields: str) -> tuple[int, int]:
    import json

    from rstbench.networks import build
    from rstbench.networks.spec import ModelSpec
    from rstbench.tickets.count import count

    kept = json.loads(fields)
    model = ModelSpec.model_validate_json(json.dumps(kept.pop("model")))
    found = count(build(model), **kept)
    return found.parameters, found.kept


def parameters(fields: Mapping[str, Any]) -> tuple[int, int]:
    """Parameters in all, and kept: of what `report.leaderboard.provenance.kept_fields` says."""
    return _counted(canonical_json(dict(fields)))


def build(asked: Asked, out: Path, console: Console) -> int:
    """Write the leaderboards of stores, and RobustBench's JSON of them, into the folder `out`; returns the exit code.

    0: written; 1: no entry could be made, as nothing that was attacked is in the stores.
    """
    store = opened(asked.stores)
    ran = suites_of(asked, store)
    made = boards(ran, store, parameters)
    if not made:
        names = ", ".join(sorted({each.plan.suite.run.name for each in ran}))
        console.print(
            f"no entry: of {names}, no defense with an attack is in the store under the keys of this version; run the "
            "suites on it (networks that are there are not trained again)",
            soft_wrap=True,
        )
        return RunError.exit_code
    paths = write_boards(made, out)
    for each, path in zip(made, paths, strict=True):
        console.print(f"{path}: {_said(each)}", markup=False, highlight=False, soft_wrap=True)
    infos = write_entries(_model_infos(ran, store), out)
    if infos:
        console.print(
            f"{out / 'model_info'}: {len(infos)} files as RobustBench has them", markup=False, highlight=False
        )
    return 0


def _model_infos(ran: Sequence[Ran], store: Store) -> list[Info]:
    """RobustBench's entries of all suites; where two suites say different things under one name, both are kept."""
    found: dict[Path, Info] = {}
    for each in ran:
        for info in entries(each.plan, store):
            path = info.path
            if path in found and found[path].info != info.info:
                path = path.with_name(f"{path.stem}_{each.plan.suite.run.name}{path.suffix}")
            found.setdefault(path, Info(path, info.info))
    return list(found.values())


def _said(built: Built) -> str:
    ranks = [entry.row["rank"] for entry in built.board.entries]
    return f"{len(ranks)} entries, {sum(map(bool, ranks))} of them ranked"


def verify(
    path: Path,
    stores: Sequence[Path],
    console: Console,
    rerun: int = 0,
    seed: int | None = None,
    data_dir: Path | None = None,
    device: str | None = None,
) -> int:
    """Compute a leaderboard anew from stores, compare, and print every difference; returns the exit code.

    rerun: so many random test images of each row are judged and attacked anew (`build.rerun`); seed: of their choice,
    by default from the CSV's digest, which nobody can choose freely. 0: all is as the stores have it; 1: it is not.
    Raises `StoreError` for files that are not of a leaderboard, or a store that has nothing of it.
    """

    def say(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    store = opened(stores)
    found = check(path, store, parameters)
    for finding in found.findings:
        say(str(finding), "red")
    wrong = bool(found.findings)
    say(
        f"{path}: {found.entries} entries, {found.figures} cells computed anew from {found.values} stored values; "
        + (f"{len(found.findings)} differences" if wrong else "all as they stand")
    )
    if rerun:
        digest = hashlib.sha256(path.read_bytes()).digest()
        chosen = int.from_bytes(digest[:4]) if seed is None else seed
        say(f"--rerun {rerun} --seed {chosen}: of each row {rerun} random images, judged and attacked anew")
        wrong |= _rerun(found.board, store, data_dir, rerun, chosen, device, say)
    return RunError.exit_code if wrong else 0


def _rerun(
    board: Board, store: Store, data_dir: Path | None, n: int, seed: int, device: str | None, say: Callable[[str], None]
) -> bool:
    """Whether rows of the board are contradicted."""
    from rstbench.build.rerun import RerunRow, Reruns

    reruns = Reruns(store, data_dir, n, seed, device)
    wrong = False
    for entry in board.entries:
        say(f"entry {entry.row['entry']}: {entry.row['name']}, {entry.row['norm']} {entry.row['epsilon']}")
        rows = [
            RerunRow(each.label, each.cell.seeds, each.cell.predictions, each.cell.probabilities)
            for each in entry.rows
            if each.cell.score == "mean"
        ]
        cell = entry.rows[0].cell
        rows += [
            RerunRow(
                f"challenge by {each.by}",
                cell.seeds,
                verdicts_on(store, each.key, cell.predictions),
                cell.probabilities,
            )
            for each in entry.challenges
        ]
        found = reruns.of(rows, lambda each: say(f"  {each.label}: {each.text}"))
        wrong |= any(each.contradicted for each in found)
    return wrong
