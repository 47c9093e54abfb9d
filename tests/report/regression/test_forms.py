from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from rstbench.report.regression import forms
from rstbench.report.regression.forms import as_annotations, as_json, as_junit, as_markdown, power_as_json
from rstbench.report.regression.options import Options
from rstbench.report.regression.planning import given, of_pairs, of_row, smallest
from rstbench.report.regression.text import show, show_power
from rstbench.report.regression.verdicts import Check, check
from tests.report.regression.sides import changed, row, side, verdicts

NASTY = "a|b<script>`x`\n::error::%,:\x00\x1b"


def made(strict: bool = False) -> Check:
    scores = verdicts(500, 250)
    before = [row(scores, name=name, networks="n") for name in ("still", "fallen", "unclear", "gone", "risen", NASTY)]
    after = [
        row(scores, name="still", networks="n"),
        row(changed(scores, 30), name="fallen", networks="m"),
        row(changed(scores, 1), name="unclear", networks="n"),
        row(changed(scores, 0, 30), name="risen", networks="n"),
        row(changed(scores, 40), name=NASTY, networks="n"),
        row(scores, name="added"),
    ]
    return check(side(*before, name="old.csv"), side(*after, name="new.csv"), Options(strict=strict))


def test_json_has_all_rows_and_what_they_rest_on() -> None:
    whole = json.loads(as_json(made()))
    assert whole["counts"] == {"worse": 2, "better": 1, "same": 1, "cannot tell": 1, "missing": 1, "new": 1}
    assert (whole["exit_code"], whole["margin"], whole["alpha"], whole["drop"]) == (1, 1.0, 0.05, None)
    by_name = {each["label"]: each for each in whole["rows"]}
    assert by_name["fallen"]["networks"] == "re-searched" and "luck" in by_name["fallen"]["notes"][0]
    assert by_name["fallen"]["difference"] == -6 and by_name["fallen"]["fell"] == 30
    assert by_name["unclear"]["n_to_show_change"] > by_name["unclear"]["n_to_show_same"] > 500
    assert by_name["gone"]["before"] == 50 and by_name["gone"]["after"] is None


@pytest.mark.parametrize("strict", [False, True])
def test_junit_keeps_to_the_schemas(strict: bool) -> None:
    text = as_junit(made(strict), datetime(2026, 11, 22, 3, 4, 5, tzinfo=UTC))
    root = ElementTree.fromstring(text)
    assert root.tag == "testsuites" and not root.attrib
    (suite,) = root
    # Ant's schema (Windy Road): these attributes, and these elements in this order.
    assert set(suite.attrib) == {
        "name", "package", "id", "hostname", "time", "timestamp", "tests", "failures", "errors", "skipped",
    }  # fmt: skip
    assert suite.attrib["timestamp"] == "2026-11-22T03:04:05"
    cases = suite.findall("testcase")
    assert [each.tag for each in suite] == ["properties", *["testcase"] * 7, "system-out", "system-err"]
    assert all(set(each.attrib) == {"name", "classname", "time"} and len(each) <= 1 for each in cases)
    assert all(set(each.attrib) == {"name", "value"} for each in suite.findall("properties/property"))
    found = {kind: suite.findall(f"testcase/{kind}") for kind in ("failure", "skipped")}
    assert all(set(each.attrib) == {"message", "type"} and each.text for each in found["failure"])
    assert all(set(each.attrib) == {"message"} for each in found["skipped"])
    assert {each.tag for case in cases for each in case} == {"failure", "skipped"}
    counts = [int(suite.attrib[name]) for name in ("tests", "failures", "skipped", "errors")]
    assert counts == [7, len(found["failure"]), len(found["skipped"]), 0] == ([7, 3, 2, 0] if strict else [7, 2, 3, 0])


def test_annotations_stay_on_their_lines() -> None:
    lines = as_annotations(made()).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::error", "::warning", "::notice", "::notice"]
    assert "%0A%3A%3Aerror%3A%3A%25%2C%3A" in lines[1]
    assert "-6.00 points" in lines[0] and "50.00 -> 44.00" in lines[0]
    strict = as_annotations(made(strict=True)).splitlines()
    assert [line.split(" ")[0] for line in strict] == ["::error"] * 3 + ["::notice"] * 2


def test_the_summary_escapes_users_text_and_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    text = as_markdown(made())
    assert "REGRESSION in 2 of 7 rows" in text and "<script>" not in text and "a\\|b&lt;script&gt;" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 6 and all(line.replace("\\|", "").count("|") == 11 for line in table)
    monkeypatch.setattr(forms, "SUMMARY_BYTES", 300)
    assert "more rows do not fit here" in as_markdown(made())


def test_the_terminal_shows_what_changed() -> None:
    console = Console(file=io.StringIO(), width=240)
    show(made(), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "REGRESSION in 2 of 7 rows (2 worse, 1 better, 1 same, 1 cannot tell, 1 missing, 1 new)" in text
    assert "\x1b" not in text and "\x00" not in text
    assert "1 row is not shown" in text and "new, without a counterpart: added." in text
    assert "1 row: other networks: the luck of the search is in the difference" in text
    assert text.index("worse ") < text.index("missing ") < text.index("cannot tell ") < text.index("better ")


def test_power_is_told_for_shares_and_for_rows() -> None:
    options = Options()
    console = Console(file=io.StringIO(), width=200)
    show_power(given(1.0, None, options), 1.0, options, console)
    assert "4086" in console.file.getvalue()  # type: ignore[attr-defined]
    (needed,) = given(1.0, 0.05, options)
    assert (needed.images, needed.basis) == (4086, "given")
    scores = verdicts(500, 250)
    one = of_row(1.0, row(scores), options)
    two = of_row(1.0, row(scores, changed(scores, 10, 10)), options)
    assert one is not None and two is not None
    assert one.discordant == pytest.approx(0.5 + 0.01) and "one seed" in one.basis
    assert two.discordant == pytest.approx(0.04 + 0.01) and two.basis == "between seeds"
    assert smallest([one, two]) == one.images and smallest([]) is None
    found = made().rows[1].measured
    assert found is not None
    pairs = of_pairs(1.0, "fallen", found, options)
    assert pairs is not None and pairs.basis == "baseline and new" and pairs.power is not None and pairs.power < 0.2
    fractional = of_row(1.0, row(np.linspace(0, 1, 400)), options)
    assert fractional is not None and fractional.power is None and fractional.images is not None
    told = json.loads(power_as_json([one, two], 1.0, options))
    assert told["images"] == one.images and [each["basis"] for each in told["rows"]] == [one.basis, two.basis]
