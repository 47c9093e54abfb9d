"""Leaderboards from made-up scores, for whatever reads their files. What they say fits together; no store is behind."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rstbench.report.leaderboard.files import (
    Samples,
    Scores,
    board_name,
    evidence,
    json_beside,
    of_entry,
    samples_beside,
    write_csv,
    write_json,
    write_samples,
)
from rstbench.report.leaderboard.schema import (
    COLUMNS,
    METRICS,
    Board,
    CellForm,
    Entry,
    EntryRow,
    Network,
    Row,
    Transfer,
)
from rstbench.report.statistics import bootstrap, wilson

RATIOS = ("0.05", "0.07", "0.10", "0.15", "0.20", "0.30")
KINDS = ("dense", "ticket", "r2s")
SHARE = {"clean": 0.9, "pgd20": 0.5, "pgd20_paper": 0.6, "autoattack": 0.45, "adaptive": 0.42, "worst": 0.4}


def key_of(*words: object) -> str:
    """64 hex digits that follow from words."""
    return hashlib.sha256(" ".join(map(str, words)).encode()).hexdigest()


def example(
    folder: Path,
    entries: int = 5,
    dataset: str = "cifar10",
    norm: str = "linf",
    epsilons: tuple[str, ...] = ("8/255",),
    n: int = 500,
    seed: int = 0,
    changes: Mapping[int, Mapping[str, str]] | None = None,
) -> Path:
    """Write the three files into `folder`; returns the CSV's path.

    Entries take turns in kind (dense, ticket, r2s of six) and epsilon; every second one has no AutoAttack. changes:
    number of an entry -> columns that say something else (names, flags ...) in CSV and JSON.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    samples: Samples = {}
    made = []
    for i in range(entries):
        kind = KINDS[i % len(KINDS)]
        members = len(RATIOS) if kind == "r2s" else 1
        row = dict.fromkeys(COLUMNS, "")
        entry = key_of("entry", seed, i)[:12]
        ease = generator.random((n,))
        for metric in METRICS:
            if metric == "autoattack" and i % 2:
                continue
            share = max(0.0, SHARE[metric] - 0.2 * i / max(1, entries))
            if members > 1:
                hits = (ease[:, None] + 0.2 * generator.random((n, members)) - 0.1) < share
                score = hits.mean(axis=1)
            else:
                score = (ease < share).astype(float)
            samples[entry, metric, 0] = Scores(np.arange(n), np.arange(n) % 10, score)
            row |= _figures(metric, score, members)
        epsilon = epsilons[i % len(epsilons)]
        ratios = {"dense": "1.00", "ticket": "0.20", "r2s": " ".join(RATIOS)}[kind]
        keys = [key_of("network", seed, i, m) for m in range(members)]
        row |= {
            "entry": entry,
            "name": f"{kind} {ratios}" if kind != "dense" else "dense_at",
            "defense": kind,
            "network": "preact_resnet18-w0.25",
            "dataset": dataset,
            "norm": norm,
            "epsilon": epsilon,
            "members": str(members),
            "remaining_ratio": ratios,
            "parameters": "701466",
            "parameters_kept": str(int(701466 * float(ratios.split()[-1]))),
            "ticket_bytes": str(30000 * members),
            "adaptive_attack": "eot_pgd20" if members > 1 else "apgd_ce",
            "worst_attack": "eot_pgd20" if members > 1 else "apgd_ce",
            "worst_tries": str(2 + 2 * members),
            "n": str(n),
            "seeds": "0",
            "profile": "desk",
            "flags": "substitute:network substitute:schedule",
            "threat_model": f"{norm} distance up to {epsilon}; the adversary knows everything but the draw.",
            "suite": "rstbench run suites/table3_r2s.yaml --profile desk",
            "packages": "rstbench 0.1.0; torch 2.15.0",
            "data_fingerprint": key_of("data", dataset),
            "hardware": "AMD EPYC",
            "date": "2026-11-22",
            "store_keys": " ".join(keys),
            "evidence": evidence(of_entry(samples, entry)),
        }
        row |= (changes or {}).get(i, {})
        networks = tuple(
            Network(seed=0, member=r, key=k, checkpoint="best_on_validation", ratio=r, sha256=key_of("file", k))
            for k, r in zip(keys, ratios.split(), strict=True)
        )
        labels = tuple(ratios.split())
        matrix = tuple(tuple(30.0 + 5 * (a == b) + a for b in range(members)) for a in range(members))
        transfer = (Transfer(attack="pgd20, stop=never", sources=labels, members=labels, matrix=matrix),)
        rows = tuple(_row(metric, row, labels, keys) for metric in METRICS[:-1] if row[metric])
        made.append(Entry(row=row, networks=networks, rows=rows, transfer=transfer, record={"commits": []}))
    _rank(made)
    made.sort(key=lambda each: (epsilons.index(each.row["epsilon"]), int(each.row["rank"])))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{board_name(dataset, norm)}.csv"
    write_csv(path, [each.row for each in made])
    write_json(json_beside(path), Board(dataset=dataset, norm="l2" if norm == "l2" else "linf", entries=tuple(made)))
    write_samples(samples_beside(path), samples)
    return path


def _figures(metric: str, score: np.ndarray, members: int) -> Row:
    found = wilson(int(score.sum()), len(score)) if members == 1 else bootstrap(score)
    return {
        metric: f"{100 * score.mean():.2f}",
        f"{metric}_low": f"{found.low:.2f}",
        f"{metric}_high": f"{found.high:.2f}",
        f"{metric}_n": str(len(score)),
    }


def _row(metric: str, row: Row, labels: tuple[str, ...], keys: list[str]) -> EntryRow:
    through = metric in ("pgd20", "pgd20_paper")
    sources = labels if through else ("clean" if metric == "clean" else "eot",)
    predictions = tuple(tuple(key_of("predict", metric, s, k) for k in keys) for s in sources)
    kind = {"clean": "clean", "autoattack": "autoattack"}.get(metric, "pgd")
    return EntryRow(
        metrics=(metric,),
        label={"clean": "natural", "adaptive": row["adaptive_attack"]}.get(metric, metric),
        attack=kind,
        variant="stop=never" if metric == "pgd20" else "",
        stop={"pgd20": "never", "pgd20_paper": "source_fooled"}.get(metric, ""),
        view="" if kind == "clean" else "member" if through else "eot",
        epsilon="" if kind == "clean" else row["epsilon"],
        bounded=True,
        transfer=False,
        n=int(row[f"{metric}_n"]),
        accuracy=row[metric],
        low=row[f"{metric}_low"],
        high=row[f"{metric}_high"],
        interval="wilson" if len(labels) == 1 else "bootstrap",
        seeds="0",
        flags="",
        images=() if kind == "clean" else (tuple((key_of("images", metric, s),) for s in sources),),
        cell=CellForm(
            score="mean",
            tries=1,
            commits="",
            probabilities=(1 / len(labels),) * len(labels),
            seeds=(0,),
            sources=sources,
            members=labels,
            predictions=(predictions,),
        ),
    )


def _rank(made: list[Entry]) -> None:
    for each in made:
        higher = [o for o in made if o.row["epsilon"] == each.row["epsilon"]]
        each.row["rank"] = str(1 + sum(float(o.row["worst"]) > float(each.row["worst"]) for o in higher))
