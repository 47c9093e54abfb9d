"""What attacks are called on a leaderboard: from their spec alone, so that two suites cannot call one thing twice."""

from __future__ import annotations

from rstbench.spec.attacks import (
    AllMembersSpec,
    ApgdSpec,
    AutoAttackSpec,
    BanditsSpec,
    CleanSpec,
    CraftedSpec,
    CwInfSpec,
    CwL2Spec,
    FgsmSpec,
    HingeSpec,
    PgdSpec,
    SquareSpec,
)


def attack_words(attack: CleanSpec | CraftedSpec) -> str:
    """An attack in words, e.g. "pgd20, stop at the source's boundary" or "eot_pgd20"; budget left out."""
    if isinstance(attack, CleanSpec):
        return "natural"
    words = [_name(attack), *_settings(attack)]
    if not isinstance(attack, AllMembersSpec):
        prefixed = isinstance(attack, PgdSpec) and attack.view in ("eot", "ensemble")
        if prefixed:
            words[0] = f"{attack.view}_{words[0]}"
        elif attack.view != "member":
            words.append(f"view {attack.view}")
        if attack.view == "eot" and attack.expectation != "mean_loss":
            words.append("unit gradients")
        if attack.view == "ensemble" and attack.average != "logits":
            words.append(f"averaged {attack.average}")
    return ", ".join(words)


def _name(attack: CraftedSpec) -> str:
    match attack:
        case PgdSpec():
            return f"pgd{attack.steps}"
        case ApgdSpec():
            return f"apgd_{attack.loss}"
        case AutoAttackSpec():
            return f"autoattack {attack.version}"
        case _:
            return attack.kind


def _settings(attack: CraftedSpec) -> list[str]:
    match attack:
        case PgdSpec():
            words = [f"{attack.restarts} restarts"] if attack.restarts > 1 else []
            return words + (["stop at the source's boundary"] if attack.stop == "source_fooled" else [])
        case ApgdSpec():
            words = [f"{attack.steps} steps", *([f"{attack.restarts} restarts"] if attack.restarts > 1 else [])]
            return words + (["best loss"] if attack.keep == "best_loss" else [])
        case AutoAttackSpec():
            return [f"{attack.steps} steps"] if attack.steps != 100 else []
        case CwInfSpec():
            return [f"form {attack.form}", *(["within epsilon"] if attack.within_epsilon else [])]
        case CwL2Spec():
            return ["within epsilon"] if attack.within_epsilon is not None else []
        case SquareSpec() | BanditsSpec():
            return [f"{attack.queries} queries"]
        case HingeSpec():
            return [f"{attack.restarts} sets of members"]
        case FgsmSpec():
            return []
        case _:
            return [f"{attack.steps} steps"]


def derived_words(score: str, tries: int, of: str) -> str:
    """An adversary that chooses among images, in words. of: words of the attacks, where they are one."""
    match score:
        case "worst_source":
            return f"worst source of {of}"
        case "any_of":
            return f"any of {tries} tries of {of}"
        case "pointwise":
            return "worst image of several attacks"
        case _:
            return "game"
