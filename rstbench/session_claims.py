"""From a folder of suites and a store to findings about the paper's claims. What the command `claims` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rstbench.errors import DataError, SpecError
from rstbench.report.claims.catalogue import CLAIMS
from rstbench.report.claims.judge import Finding, Where, judge
from rstbench.report.claims.language import Claim
from rstbench.report.claims.readings import Planned
from rstbench.session import Request, plans_of
from rstbench.store import Store


def findings(
    folder: Path, profile: str, root: Path, data_dir: Path | None, claims: Sequence[Claim] = CLAIMS
) -> tuple[tuple[Finding, ...], Where]:
    """Judge claims against the store at `root`, with the suites in `folder` under `profile`.

    A suite that is missing, invalid, or without its data makes the claims that need it `not run`, and is named there.
    Raises `SpecError` if `folder` is no directory, `StoreError` if the store is damaged.
    """
    if not folder.is_dir():
        raise SpecError(f"{folder}: no such directory; name the one that holds the suites by --suites")
    store = Store(root)
    names = {name for claim in claims for name in claim.suites}
    paths = [path for path in sorted(folder.glob("*.yaml")) if _named(path.stem, names)]
    suites = [_planned(path, profile, store, data_dir) for path in paths]
    where = Where(profile, str(root), str(folder), "" if data_dir is None else str(data_dir))
    return judge(claims, suites, store, where), where


def _named(stem: str, names: set[str]) -> bool:
    return stem in names or any(name.endswith("_") and stem.startswith(name) for name in names)


def _planned(path: Path, profile: str, store: Store, data_dir: Path | None) -> Planned:
    absent: list[DataError] = []
    try:
        (plan,) = plans_of(Request([path], profile, store.root, data_dir), store, absent=absent)
    except SpecError:
        return Planned(path, None, f"not valid; `rstbench validate {path}` says why")
    except DataError as error:
        return Planned(path, None, str(error))
    return Planned(path, plan, "; ".join(map(str, absent)))
