"""What a check has found, in words: one wording for terminals, annotations, summaries and test reports."""

from __future__ import annotations

from rstbench.report.regression.verdicts import Check, Compared, Verdict, points

HEAD = ("verdict", "row", "before", "now", "difference", "n", "fell, rose", "p", "networks", "why")


def cells(row: Compared) -> tuple[str, ...]:
    """The row under `HEAD`."""
    found = row.measured
    if found is None:
        before, after = (f"{side.value:.2f}" if side else "" for side in (row.before, row.after))
        return (row.verdict.value, row.label, before, after, "", "", "", "", "", row.why)
    changed = "" if found.fell is None else f"{found.fell}, {found.rose}"
    return (
        row.verdict.value,
        row.label,
        f"{found.before:.2f}",
        f"{found.after:.2f}",
        f"{found.difference:+.2f} [{found.low:+.2f}, {found.high:+.2f}]",
        "" if found.n is None else str(found.n),
        changed,
        "" if row.p is None else p_text(row.p),
        found.relation,
        reason(row),
    )


def p_text(p: float) -> str:
    """A p-value with two significant digits."""
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def reason(row: Compared) -> str:
    """Why the verdict is what it is, and what else would tell."""
    if row.verdict is not Verdict.cannot_tell or row.measured is None:
        return row.why
    n = row.measured.n
    seen = f"cannot tell with n = {n}" if n else "cannot tell"
    would = []
    if row.n_same is not None:
        would.append(f"about {row.n_same} images would show that it stayed")
    if row.n_worse is not None and row.measured.difference:
        kind = "drop" if row.measured.difference < 0 else "rise"
        would.append(f"about {row.n_worse} that it is a {kind}, if it is one of {abs(row.measured.difference):.2f}")
    return f"{seen}: {row.why}" + (f"; {', '.join(would)}" if would else "")


def sentence(row: Compared) -> str:
    """All that matters of a row, as one line without its name."""
    found = row.measured
    if found is None:
        return f"{row.verdict}: {row.why}"
    numbers = f"{found.before:.2f} -> {found.after:.2f}, {found.difference:+.2f} points "
    numbers += f"[{found.low:+.2f}, {found.high:+.2f}]"
    sample = [] if found.n is None else [f"n = {found.n}"]
    sample += [] if found.fell is None else [f"{found.fell} fell, {found.rose} rose"]
    sample += [] if row.p is None else [f"{found.test}: p {'' if row.p < 0.0001 else '= '}{p_text(row.p)}"]
    why = reason(row)
    return f"{row.verdict}: {numbers} ({'; '.join((*sample, found.relation))}). {why[0].upper()}{why[1:]}" + "".join(
        f". {note[0].upper()}{note[1:]}" for note in row.notes
    )


def counts(check: Check) -> str:
    """How many rows have which verdict."""
    found = [(len(check.of(verdict)), verdict.value) for verdict in Verdict]
    return ", ".join(f"{count} {name}" for count, name in found if count)


def unchanged(count: int) -> str:
    """How many rows need not be shown."""
    shown = "1 row is" if count == 1 else f"{count} rows are"
    return f"{shown} not shown: computed from the same values, or the same networks gave every image the same score."


def outcome(check: Check) -> str:
    """The check in one sentence."""
    if check.failures:
        return f"REGRESSION in {len(check.failures)} of {len(check.rows)} rows ({counts(check)})"
    return f"no regression ({counts(check)})"


def method(check: Check) -> str:
    """How to read the numbers."""
    options = check.options
    level = f"{100 * (1 - options.alpha):g} %"
    drop = (
        "that is not shown to lie within the margin" if options.drop is None else f"of at least {points(options.drop)}"
    )
    return (
        f"Worse: a significant drop (two-sided, alpha {options.alpha:g}, p corrected for all rows after Holm) "
        f"{drop}. "
        f"Same: the {level} interval of the difference lies within {points(options.margin)}, or nothing was computed "
        "anew. Differences are in points, image by image where both sides have per-image results; interval and p cover "
        "the choice of test images, not the luck of a search."
    )


def remarks(check: Check) -> list[str]:
    """Sentences about sides, and about rows whose notes are the same."""
    rows: dict[str, int] = {}
    for row in check.rows:
        for note in row.notes:
            rows[note] = rows.get(note, 0) + 1
    said = [f"{count} {'row' if count == 1 else 'rows'}: {note}." for note, count in rows.items()]
    return [*(f"{note}." for side in (check.baseline, check.new) for note in side.notes), *said]
