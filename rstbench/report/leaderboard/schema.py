"""What the files of a leaderboard say: columns of the CSV and their meaning, fields of the JSON, and constants."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA = 1
"""Version of the files; raised when a column or a field changes its meaning or goes."""

METRICS = ("clean", "pgd20", "pgd20_paper", "autoattack", "adaptive", "worst")
"""Accuracies of an entry, each with an interval and its own number of test images."""

RANKED_IMAGES = 200
"""An entry whose `worst` rests on fewer test images has no rank: its interval is 14 points wide and more."""

Row = dict[str, str]
"""A row of the CSV: a text for every one of `COLUMNS`, empty where there is nothing to say."""

_METRIC_MEANINGS = {
    "clean": "accuracy without attack",
    "pgd20": "accuracy under PGD of 20 steps against each member in turn, mean over sources and members; no image "
    "stops before its last step",
    "pgd20_paper": "the same under the paper's stop rule: an image rests once its source errs, so that it transfers "
    "badly. Of a switch, the weakest adversary here",
    "autoattack": "accuracy under AutoAttack, the lowest of its variants that were run",
    "adaptive": "accuracy under the attack, named in `adaptive_attack`, that leaves least standing among those with "
    "gradients whose adversary has all members in hand; of a single network, among all with gradients but PGD-20",
    "worst": "image by image the least over every attack within the threat model that has all n images, the clean "
    "image included; of a switch, of the expected accuracy over its members on one and the same image. An upper bound "
    "on robust accuracy",
}


def _of_metric(name: str) -> dict[str, str]:
    return {
        name: f"percent: {_METRIC_MEANINGS[name]}",
        f"{name}_low": f"lower end of the 95 % interval of `{name}`",
        f"{name}_high": f"upper end of the 95 % interval of `{name}`",
        f"{name}_n": f"test images behind `{name}`",
    }


COLUMNS: dict[str, str] = {
    "rank": f"by `worst`, 1 for the highest, within one epsilon; ties share a rank. Blank under {RANKED_IMAGES} test "
    "images, or where no attack that fits the defense can be trusted (`flags`)",
    "entry": "name for programs: 12 hex digits that follow from networks, draw, data, norm and epsilon",
    "name": "the defense, as tables call it, and its remaining ratios",
    "defense": "its kind: dense, ticket, lottery, r2s, switch, ensemble or model",
    "network": "architecture that was really run",
    "dataset": "data set that was really used",
    "norm": "linf or l2",
    "epsilon": 'the largest distance that counts: "8/255" for linf, "0.5" for l2',
    "members": "networks behind the defense; one of them is drawn for each inference (of an ensemble: all answer)",
    "remaining_ratio": "share of the weights that is kept, of each member",
    "parameters": "parameters of one network, with those that its mask drops",
    "parameters_kept": "parameters that the mask keeps, of the largest member",
    "ticket_bytes": "bytes of all files that the defense is loaded from, under its first seed: tickets, and the "
    "trained weights that they refer to, each once",
    **_of_metric("clean"),
    **_of_metric("pgd20"),
    **_of_metric("pgd20_paper"),
    **_of_metric("autoattack"),
    **_of_metric("adaptive"),
    "adaptive_attack": "the attack behind `adaptive`",
    **_of_metric("worst"),
    "worst_attack": "the attack that by itself leaves least standing, of those behind `worst`",
    "worst_tries": "adversarial images that `worst` chooses from for each test image; more tries, a sharper bound",
    "n": "test images that the rank rests on",
    "seeds": "seeds of the suite: each is other networks, and all are in the mean",
    "profile": "profile of the suite: how much was run",
    "flags": "reliability flags, substitutes and notes of all rows behind the entry",
    "threat_model": "norm, epsilon and what the adversary knows, as a sentence",
    "challengers": "who handed in adversarial images that lowered `worst`",
    "suite": "the command that makes the rows, with its suite file",
    "commit": "revision of rstbench that computed the values, where it ran from a checkout",
    "packages": "versions behind the values",
    "data_fingerprint": "SHA-256 of the images and labels",
    "hardware": "processors that computed the values",
    "date": "day (UTC) of the newest value behind the entry",
    "store_keys": "keys of the member networks in the store, seed by seed",
    "evidence": "SHA-256 of the per-image scores behind all figures of the row",
}
"""Column of the CSV, in order -> what it says."""


def columns_table() -> str:
    """`COLUMNS` as a Markdown table; the four columns of a metric stand in one line."""
    parts = [f"{metric}{part}" for metric in METRICS for part in ("_low", "_high", "_n")]
    lines = ["| column | what it says |", "|---|---|"]
    for name, meaning in COLUMNS.items():
        if name not in parts:
            shown = f"`{name}`, `{name}_low`, `{name}_high`, `{name}_n`" if name in METRICS else f"`{name}`"
            lines.append(f"| {shown} | {meaning} |")
    return "\n".join(lines)


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Key = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Keys = tuple[tuple[tuple[Key, ...], ...], ...]
"""Of predictions: [seed][source][member]."""

Percent = Annotated[str, Field(pattern=r"^[0-9]{1,3}\.[0-9]{2}$")]


class Network(_Form):
    """A member network under one seed. key, checkpoint: where the store has it; ratio: "0.20", empty if not known.

    member: its label, as in `CellForm.members`; networks of an ensemble share one. sha256: of its file in the store;
    empty for a model from elsewhere.
    """

    seed: int
    member: str
    key: Key
    checkpoint: str
    ratio: str
    sha256: str


class CellForm(_Form):
    """What recomputes a row from the store without its suite: fields of `plan.PlannedCell` of the same names."""

    score: Literal["mean", "worst_source", "any_of", "pointwise", "game"]
    tries: Annotated[int, Field(ge=1)]
    commits: str
    probabilities: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    seeds: tuple[int, ...]
    sources: tuple[str, ...]
    members: tuple[str, ...]
    predictions: Keys
    held_out: Keys = ()

    @model_validator(mode="after")
    def _fits(self) -> CellForm:
        grids = {(len(seed), *map(len, seed)) for seed in (*self.predictions, *self.held_out)}
        members = (len(self.members),) * len(self.sources)
        if not self.sources or not self.members or grids != {(len(self.sources), *members)}:
            raise ValueError("the predictions are not one for each source and member")
        if len(set(self.seeds)) != len(self.seeds) or len(self.predictions) != len(self.seeds):
            raise ValueError("the predictions are not one for each seed")
        if self.score == "game" and len(self.held_out) != len(self.seeds):
            raise ValueError("a game has held-out predictions for each seed")
        if len(self.probabilities) != len(self.members) or abs(sum(self.probabilities) - 1) > 1e-6:
            raise ValueError("the probabilities are not one for each member, or do not sum to 1")
        return self


class EntryRow(_Form):
    """A row of a table that is behind an entry.

    metrics: columns of the CSV that show it; "worst" where the worst case chooses from its images. label: in words.
    attack: kind of the attack's spec ("clean" without one), or the score of an adversary that chooses among images.
    variant: as the suite calls it. stop: stop rule of PGD, else empty. view: what the adversary computes with.
    epsilon: of its images. bounded: whether they all keep the norm and epsilon of the entry; a row that does not is
    only listed. transfer: made against other networks. images: SHA-256 of the files of adversarial images,
    [seed][source][part].
    """

    metrics: tuple[str, ...]
    label: str
    attack: str
    variant: str
    stop: str
    view: str
    epsilon: str
    bounded: bool
    transfer: bool
    n: int
    accuracy: Percent
    low: Percent
    high: Percent
    interval: str
    seeds: str
    flags: str
    images: tuple[tuple[tuple[Key, ...], ...], ...]
    cell: CellForm


class Transfer(_Form):
    """Accuracy in percent, mean over seeds, of each member on the images made against each source."""

    attack: str
    sources: tuple[str, ...]
    members: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]


class Challenge(_Form):
    """Adversarial images that somebody handed in, kept in the store under `key`.

    images: how many; fell: how many of these lowered the worst case of their test image. date: ISO 8601, UTC.
    """

    by: str
    key: Key
    images: int
    fell: int
    date: str


class Entry(_Form):
    """An entry: a row of the CSV, and what is behind it. record: provenance of the values, for people."""

    row: Row
    networks: tuple[Network, ...]
    rows: tuple[EntryRow, ...]
    transfer: tuple[Transfer, ...] = ()
    challenges: tuple[Challenge, ...] = ()
    record: dict[str, Any] = Field(default_factory=dict)


class Board(_Form):
    """A leaderboard: the JSON file. In the file, the columns of `Entry.row` stand beside the entry's other fields."""

    schema_version: Literal[1] = 1
    dataset: str
    norm: Literal["linf", "l2"]
    entries: tuple[Entry, ...]

    def entry(self, name: str) -> Entry | None:
        """The entry whose column `entry` is `name`; None if there is none."""
        return next((each for each in self.entries if each.row["entry"] == name), None)
