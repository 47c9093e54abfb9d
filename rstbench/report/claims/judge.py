"""What is known of each claim: its status, its numbers, and the commands that would tell more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from shlex import quote

from rstbench.report.claims.language import Claim, Statement
from rstbench.report.claims.measured import LeftOut, Missing, measure_statement
from rstbench.report.claims.outcomes import Outcome
from rstbench.report.claims.paper_check import PaperSide, against_paper
from rstbench.report.claims.readings import Planned, Rows
from rstbench.report.claims.rules import SEEDS, Decision, Status, decide, needed, status
from rstbench.report.setting import require_one_profile
from rstbench.store import Store


@dataclass(frozen=True)
class Reading:
    """A claim under one protocol. reasons: why this is not the paper's own setting; empty where it is."""

    variant: str
    status: Status
    decision: Decision | None
    outcomes: tuple[Outcome, ...]
    missing: tuple[Missing, ...]
    left_out: tuple[LeftOut, ...]
    reasons: tuple[str, ...]

    @property
    def statements(self) -> int:
        """How many statements the profile has of the claim."""
        return len(self.outcomes) + len(self.missing)


@dataclass(frozen=True)
class Finding:
    """A claim judged. measured: the status by the store alone; readings: the first decides."""

    claim: Claim
    status: Status
    measured: Status
    paper: PaperSide
    readings: tuple[Reading, ...]
    commands: tuple[str, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Where:
    """What a store was asked with, for the commands that would run more. data_dir: empty where none was named."""

    profile: str
    store: str
    suites: str
    data_dir: str = ""


def judge(claims: Iterable[Claim], suites: Sequence[Planned], store: Store, where: Where) -> tuple[Finding, ...]:
    """Judge every claim by `rules`, in order.

    suites: every suite file at hand, planned under the profile. Rows that are not there make a claim `not run`. Raises
    `SpecError` if the plans are of different profiles, `StoreError` if stored values are damaged.
    """
    require_one_profile([suite.plan for suite in suites if suite.plan is not None])
    rows = Rows(suites, store)
    return tuple(_judge_one(claim, rows, where) for claim in claims)


def _judge_one(claim: Claim, rows: Rows, where: Where) -> Finding:
    among = rows.among(claim.suites)
    planned = [suite for suite in among if suite.plan is not None]
    absent = [pattern for pattern in claim.suites if not rows.among([pattern])]
    all_there = not absent and len(planned) == len(among)
    readings = tuple(_read(claim, rows, planned, all_there, variant) for variant in claim.readings)
    paper = against_paper(claim)
    first = readings[0]
    return Finding(
        claim=claim,
        status="inconsistent" if paper.verdict == "contradicts" else first.status,
        measured=first.status,
        paper=paper,
        readings=readings,
        commands=_commands(first, where) if first.missing else (),
        remarks=(
            *(f"no suite {pattern}*.yaml in {where.suites}" for pattern in absent),
            *(f"{suite.path}: {suite.reason}" for suite in among if suite.reason),
            *dict.fromkeys(missing.reason for missing in first.missing if missing.reason),
            *(
                ["the profile has none of its rows; another may have, such as paper"]
                if len(first.left_out) == len(claim.statements)
                else []
            ),
        ),
    )


def _read(claim: Claim, rows: Rows, suites: Sequence[Planned], all_there: bool, variant: str) -> Reading:
    found = [measure_statement(rows, statement, suites, all_there, variant) for statement in claim.statements]
    outcomes = tuple(one for one in found if isinstance(one, Outcome))
    missing = tuple(one for one in found if isinstance(one, Missing))
    left_out = tuple(one for one in found if isinstance(one, LeftOut))
    planned = len(outcomes) + len(missing)
    decision = decide(claim.need, outcomes, planned) if outcomes else None
    reasons = tuple(_reasons(claim.statements, outcomes, left_out))
    return Reading(variant, status(decision, not reasons), decision, outcomes, missing, left_out, reasons)


def _reasons(
    statements: Sequence[Statement], outcomes: Sequence[Outcome], left_out: Sequence[LeftOut]
) -> Iterable[str]:
    fewest = min((len(one.seeds) for one in outcomes), default=0)
    if outcomes and fewest < SEEDS:
        yield f"{fewest} of {SEEDS} seeds"
    substitutes = sorted({flag for one in outcomes for flag in one.substitutes})
    if substitutes:
        yield " ".join(substitutes)
    if left_out:
        yield f"{len(left_out)} of {len(statements)} statements are not in this profile"


def _commands(reading: Reading, where: Where) -> tuple[str, ...]:
    """One command a suite, narrowed to a data set and a network where all missing rows share it."""
    wanted: dict[Planned, list[Missing]] = {}
    for missing in reading.missing:
        for suite in missing.suites:
            wanted.setdefault(suite, []).append(missing)
    commands = []
    for suite, entries in wanted.items():
        picks = [pick for missing in entries for pick in missing.picks]
        only = []
        for axis in ("dataset", "network"):
            values = {getattr(pick, axis) for pick in picks}
            declared = getattr(suite.plan.suite.run.matrix, axis) if suite.plan is not None else ()
            # A row over several data sets names none of them.
            if len(values) == 1 and len(declared) > 1 and values <= set(declared):
                only.append(f" --only {axis}={values.pop()}")
        store = quote(where.store)
        data = f" --data-dir {quote(where.data_dir)}" if where.data_dir else ""
        commands.append(
            f"rstbench run {quote(str(suite.path))} --profile {where.profile} --store {store}{data}{''.join(only)}"
        )
    return tuple(commands)


def enough(finding: Finding) -> str:
    """How many statements the claim needs, in words."""
    count = finding.readings[0].statements or len(finding.claim.statements)
    return f"{needed(finding.claim.need, count)} of {count}"
