"""A check for programs: JSON, JUnit XML, GitHub's annotations and job summary."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from xml.etree import ElementTree

from rstbench.report.regression.options import Options
from rstbench.report.regression.planning import Needed, smallest
from rstbench.report.regression.verdicts import Check, Compared, Verdict, worst_first
from rstbench.report.regression.words import HEAD, cells, method, outcome, remarks, sentence, unchanged

SCHEMA = 1
SUMMARY_BYTES = 900_000
"""GitHub shows a step's summary of up to 1 MiB, and of more nothing."""


def as_json(check: Check) -> str:
    """All rows, with what every verdict rests on. Accuracies, differences and intervals in percent and points."""
    return _dumped(
        {
            "schema": SCHEMA,
            "baseline": check.baseline.name,
            "new": check.new.name,
            "margin": check.options.margin,
            "alpha": check.options.alpha,
            "drop": check.options.drop,
            "strict": check.options.strict,
            "exit_code": check.exit_code,
            "counts": {verdict.value: len(check.of(verdict)) for verdict in Verdict},
            "outcome": outcome(check),
            "notes": [*check.baseline.notes, *check.new.notes],
            "rows": [_row(row) for row in check.rows],
        }
    )


def _row(row: Compared) -> dict[str, Any]:
    found = row.measured
    told: dict[str, Any] = {
        "key": list(row.key),
        "label": row.label,
        "verdict": row.verdict.value,
        "why": row.why,
        "before": row.before.value if row.before else None,
        "after": row.after.value if row.after else None,
    }
    if found is None:
        return told
    return told | {
        "before": round(found.before, 4),
        "after": round(found.after, 4),
        "difference": round(found.difference, 4),
        "low": round(found.low, 4),
        "high": round(found.high, 4),
        "n": found.n,
        "fell": found.fell,
        "rose": found.rose,
        "test": found.test,
        "p": found.p,
        "p_adjusted": row.p,
        "networks": found.relation,
        "identical": found.identical,
        "seeds": list(found.seeds),
        "n_to_show_same": row.n_same,
        "n_to_show_change": row.n_worse,
        "notes": list(row.notes),
    }


def power_as_json(found: Sequence[Needed], drop: float, options: Options) -> str:
    """How many images are needed, row by row."""
    rows = [
        {
            "label": each.label,
            "discordant": each.discordant,
            "basis": each.basis,
            "images": each.images,
            "images_to_show_same": each.same,
            "n": each.n,
            "power_with_n": each.power,
        }
        for each in found
    ]
    asked = {"drop": drop, "alpha": options.alpha, "power": options.power, "margin": options.margin}
    return _dumped({"schema": SCHEMA, **asked, "images": smallest(found), "rows": rows})


def _dumped(whole: dict[str, Any]) -> str:
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_junit(check: Check, now: datetime) -> str:
    """JUnit's XML: a test case for every row. "cannot tell" and what has no counterpart are skipped tests.

    It keeps to what the schemas of Ant (Windy Road's) and Jenkins have in common. now: UTC, when the check was made.
    """
    failing = {id(row) for row in check.failures}
    skipped = {Verdict.cannot_tell, Verdict.missing, Verdict.new}
    passed_over = [row for row in check.rows if row.verdict in skipped and id(row) not in failing]
    numbers = {"tests": len(check.rows), "failures": len(failing), "errors": 0, "skipped": len(passed_over)}
    root = ElementTree.Element("testsuites")
    attributes = {"name": "rstbench check", "package": "rstbench", "id": "0", "hostname": "localhost", "time": "0"}
    attributes |= {"timestamp": now.strftime("%Y-%m-%dT%H:%M:%S")}
    attributes |= {name: str(value) for name, value in numbers.items()}
    suite = ElementTree.SubElement(root, "testsuite", attributes)
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (("baseline", check.baseline.name), ("new", check.new.name), ("method", method(check))):
        ElementTree.SubElement(properties, "property", name=name, value=_xml(value))
    for row in check.rows:
        case = ElementTree.SubElement(suite, "testcase", name=_xml(row.label), classname="rstbench.check", time="0")
        told = _xml(sentence(row))
        if id(row) in failing:
            ElementTree.SubElement(case, "failure", message=told, type=row.verdict.value).text = told
        elif row.verdict in skipped:
            ElementTree.SubElement(case, "skipped", message=told)
    ElementTree.SubElement(suite, "system-out").text = _xml("\n".join((*remarks(check), outcome(check))))
    ElementTree.SubElement(suite, "system-err").text = ""
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _xml(text: str) -> str:
    """Without the characters that no XML 1.0 may hold."""
    return "".join(
        c for c in text if c in "\t\n\r" or 0x20 <= ord(c) < 0xD800 or 0xE000 <= ord(c) < 0xFFFE or ord(c) > 0xFFFF
    )


def as_annotations(check: Check) -> str:
    """GitHub's workflow commands: an error for every row that fails, a warning for every one that is missing."""
    lines = [_command("error", f"robust accuracy: {row.label}", sentence(row)) for row in check.failures]
    missing = [] if check.options.strict else check.of(Verdict.missing)
    lines += [_command("warning", f"missing: {row.label}", row.why) for row in missing]
    unknown = check.of(Verdict.cannot_tell)
    if unknown:
        names = "; ".join(row.label for row in unknown[:5]) + (" ..." if len(unknown) > 5 else "")
        lines.append(_command("notice", "rstbench check", f"cannot tell for {len(unknown)} rows: {names}"))
    lines.append(_command("notice", "rstbench check", outcome(check)))
    return "".join(f"{line}\n" for line in lines)


def _command(kind: str, title: str, message: str) -> str:
    def escaped(text: str, more: bool) -> str:
        text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        return text.replace(":", "%3A").replace(",", "%2C") if more else text

    return f"::{kind} title={escaped(title, True)}::{escaped(message, False)}"


def as_markdown(check: Check) -> str:
    """The job summary: rows that changed first; those where nothing changed only as their number."""
    changed = [row for row in worst_first(check.rows) if not (row.measured and row.measured.identical)]
    lines = [f"### rstbench check: {_cell(outcome(check))}", ""]
    lines += [f"{_cell(check.baseline.name)} against {_cell(check.new.name)}.", ""]
    rows = [_line(cells(row)) for row in changed]
    size, kept = 0, []
    for row in rows:
        size += len(row.encode())
        if size > SUMMARY_BYTES:
            break
        kept.append(row)
    if kept:
        lines += [_line(HEAD), _line("---" for _ in HEAD), *kept, ""]
    if len(kept) < len(rows):
        lines += [f"{len(rows) - len(kept)} more rows do not fit here.", ""]
    if len(changed) < len(check.rows):
        still = len(check.rows) - len(changed)
        lines += [unchanged(still), ""]
    lines += [*(f"- {_cell(remark)}" for remark in remarks(check)[:50]), "", method(check), ""]
    return "\n".join(lines)


def _line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(map(_cell, texts))} |"


def _cell(text: str) -> str:
    """Users' text must neither end a cell nor begin markup."""
    text = html.escape(" ".join(text.split()), quote=False)
    for sign in "\\|`*_[]":
        text = text.replace(sign, f"\\{sign}") if sign in "\\|" else text.replace(sign, f"&#{ord(sign)};")
    return text
