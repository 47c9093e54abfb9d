"""Suite files in, specs or faults out: the sample suite, and copies of it with something broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rstbench.errors import SpecError
from rstbench.spec import PROFILES, Fault, find_faults, load_suite
from rstbench.spec.attacks import PgdSpec
from rstbench.spec.defenses import DenseSpec, R2sSpec, TicketSpec

SAMPLE = Path(__file__).parent / "data" / "table3.yaml"
TEXT = SAMPLE.read_text(encoding="utf-8")


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


@pytest.fixture
def broken(tmp_path: Path):
    """A function: the sample with `old` replaced by `new`, as a file."""

    def write(old: str, new: str, text: str = TEXT) -> Path:
        assert text.count(old) >= 1, f"the sample no longer has {old!r}"
        path = tmp_path / "suite.yaml"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return path

    return write


def only(path: Path) -> Fault:
    faults = find_faults(path)
    assert len(faults) == 1, [fault.render(path) for fault in faults]
    return faults[0]


def test_the_sample_loads_under_every_profile() -> None:
    assert find_faults(SAMPLE) == []
    for profile in PROFILES:
        suite = load_suite(SAMPLE, profile)
        assert suite.profile == profile
        assert suite.paper == load_suite(SAMPLE).run


def test_numbers_follow_yaml_1_2() -> None:
    paper = load_suite(SAMPLE).paper
    assert paper.datasets["cifar100"].validation_fraction == 0.02
    assert paper.trainings["at"].weight_decay == 5e-4
    assert paper.trainings["at"].inner.step_size == "2/255"
    pgd = paper.attacks["l2"]
    assert isinstance(pgd, PgdSpec)
    assert pgd.epsilon == 0.5
    r2s = paper.defenses["r2s"]
    assert isinstance(r2s, R2sSpec)
    assert r2s.ratios == (0.05, 0.07, 0.1, 0.15, 0.2, 0.3)


def test_overlays_merge_mappings_and_replace_the_rest() -> None:
    suite = load_suite(SAMPLE, "desk")
    search = suite.run.searches["rst"]
    assert (search.epochs, search.lr_schedule.kind, search.inner.kind) == (6, "cosine", "fgsm_rs")
    assert search.lr_schedule.milestones == (80, 120)  # a schedule is no union: the mapping merges
    assert suite.run.seeds == (0,)
    assert suite.paper.seeds == (0, 1, 2)
    assert suite.run.networks["preact18"].family == "preact_resnet18"
    assert suite.run.networks["preact18"].width == 0.25
    assert suite.run.table == suite.paper.table


def test_a_defense_of_another_kind_replaces_as_a_whole() -> None:
    suite = load_suite(SAMPLE, "smoke")
    assert isinstance(suite.paper.defenses["dense_at"], DenseSpec)
    assert suite.run.defenses["dense_at"] == TicketSpec(kind="ticket", search="rst", ratio=1.0)


UNITS = "bare numbers are refused"
BROKEN = [
    # what is replaced, by what, path of the fault, part of its message, suggestion
    (
        "preact_resnet18}",
        "preact_resnet_18}",
        "networks.preact18.family",
        "allowed: preact_resnet18",
        "preact_resnet18",
    ),
    ("network: [preact18, wrn]", "network: [preact18, wrn32]", "matrix.network[1]", "not defined in `networks`", "wrn"),
    ("dataset: [cifar10,", "dataset: [cifar-10,", "matrix.dataset[0]", "not defined in `datasets`", "cifar10"),
    ("{source: cifar10}", "{source: CIFAR-10}", "datasets.cifar10.source", "allowed: digits", "cifar10"),
    ("attack: pgd20}", "attack: pgd200}", "table.cells[1].attack", "not defined in `attacks`", "pgd20"),
    ("r2s, attack: pgd20}", "r2, attack: pgd20}", "table.cells[3].defense", "not defined in `defenses`", "r2s"),
    ("dataset: cifar10}", "dataset: cifar1}", "table.cells[5].dataset", "not defined in `datasets`", "cifar10"),
    ("network: preact18}", "network: preact}", "table.cells[6].network", "not defined in `networks`", "preact18"),
    ("training: at}", "training: att}", "defenses.dense_at.training", "not defined in `trainings`", "at"),
    ("search: rst, ratio: 0.05", "search: rts, ratio: 0.05", "defenses.rst.search", "not defined in `searches`", "rst"),
    (
        "{kind: ticket, search",
        "{kind: tickett, search",
        "defenses.rst.kind",
        "allowed: dense, ticket, tickets, r2s, lottery, switch, ensemble or model",
        "ticket",
    ),
    (
        "kind: r2s\n",
        "kind: autoattack\n",
        "defenses.r2s.kind",
        "allowed: dense, ticket, tickets, r2s, lottery, switch, ensemble or model",
        None,
    ),
    ("ratio: 0.05", "ratio: 0", "defenses.rst.ratio", "greater than 0 and at most 1", None),
    ("ratio: 0.05", "ratio: 1.5", "defenses.rst.ratio", "greater than 0 and at most 1", None),
    ("ratio: 0.05", "ratio: '0.05'", "defenses.rst.ratio", "must be a number", None),
    ("ratio: 0.05", "ratio: true", "defenses.rst.ratio", "must be a number", None),
    ("ratio: 0.05", "ratio: .nan", "defenses.rst.ratio", "must be", None),
    ("[0.05, 0.07,", "[0.05, 1.07,", "defenses.r2s.ratios[1]", "at most 1", None),
    ("[0.05, 0.07,", "[0.05, 0.05,", "defenses.r2s", "must differ", None),
    ("[0.05, 0.07, 0.10, 0.15, 0.20, 0.30]", "[0.05]", "defenses.r2s.ratios", "at least 2 entries", None),
    ("epsilon: 8/255", "epsilon: 0.03", "attacks.pgd20.epsilon", UNITS, None),
    ("epsilon: 8/255", "epsilon: 8", "attacks.pgd20.epsilon", UNITS, None),
    ("epsilon: 8/255", "epsilon: 8/0", "attacks.pgd20.epsilon", "denominator is zero", None),
    ("epsilon: 8/255", "epsilon: 300/255", "attacks.pgd20.epsilon", "lies in [0, 1]", None),
    ("epsilon: 8/255", "epsilon: eight", "attacks.pgd20.epsilon", "not a distance", None),
    ("epsilon: 0.5}", 'epsilon: "8/255"}', "attacks.l2.epsilon", "an L2 distance is a number above 0", None),
    ("epsilon: 0.5}", "epsilon: 0}", "attacks.l2.epsilon", "an L2 distance is a number above 0", None),
    ("norm: l2, epsilon: 0.5}", "norm: l2}", "attacks.l2", "no default for norm l2", None),
    ("norm: l2, epsilon: 0.5}", "norm: L2, epsilon: 0.5}", "attacks.l2.norm", "allowed: linf or l2", "l2"),
    (
        'inner: {kind: pgd, epsilon: "8/255"',
        "inner: {kind: pgd, epsilon: 0.1",
        "trainings.at.inner.epsilon",
        UNITS,
        None,
    ),
    ("    steps: 20", "    stps: 20", "attacks.pgd20.stps", "unknown key; allowed: ", "steps"),
    ("    steps: 20", "    steps: 2e1", "attacks.pgd20.steps", "must be a whole number", None),
    ("title: Random", "titel: Random", "titel", "unknown key", "title"),
    ("title: Random switch between robust scratch tickets", "title: 3", "title", "must be text, so quote it", None),
    ("schema: 1", "schema: 2", "schema", "allowed: 1", None),
    ("name: table3", "name: Table 3", "name", "lower-case letters", None),
    ("headline: true", "headline: yes", "attacks.pgd20_honest.headline", "must be true or false", None),
    ("seeds: [0, 1, 2]", "seeds: [0, 1, 0]", "seeds[2]", "stands twice", None),
    ("seeds: [0, 1, 2]", "seeds: []", "seeds", "at least 1 entry", None),
    ("seeds: [0, 1, 2]", "seeds: 3", "seeds", "must be a list", None),
    ("seeds: [0, 1, 2]", "seeds: [-1]", "seeds[0]", "at least 0 and less than 9223372036854775808", None),
    ("milestones: [80, 120]", "milestones: [120, 80]", "searches.rst.lr_schedule.milestones", "must increase", None),
    ("columns: [dataset,", "columns: [defense,", "table.columns[0]", "already labels the rows", None),
    ("paper: 3", "paper: 12", "table.paper", "at least 1 and at most 9", None),
    ("  desk:\n", "  desktop:\n", "profiles.desktop", "allowed: paper, express, desk or smoke", "desk"),
]


@pytest.mark.parametrize(("old", "new", "path", "message", "suggestion"), BROKEN)
def test_a_fault_is_told_once_with_line_path_and_what_is_allowed(
    broken, old: str, new: str, path: str, message: str, suggestion: str | None
) -> None:
    file = broken(old, new)
    # A misspelt key is also a missing one where the key is required; that second fault is right.
    faults = [fault for fault in find_faults(file) if fault.message != "this key is missing"]
    assert [fault.key for fault in faults] == [path]
    fault = faults[0]
    assert message in fault.message
    assert fault.suggestion == suggestion
    text = file.read_text(encoding="utf-8")
    whole_mapping = path == "defenses.r2s"  # its fault stands at the key of the mapping
    assert fault.line == line_of(text, "  r2s:" if whole_mapping else new)
    with pytest.raises(SpecError) as error:
        load_suite(file)
    assert fault.render(file) in str(error.value)


def test_render_names_file_line_key_value_and_suggestion(broken) -> None:
    file = broken("preact_resnet18}", "resnet_18}")
    line = line_of(TEXT, "preact_resnet18}")
    assert only(file).render("s.yaml") == (
        f"s.yaml:{line}: networks.preact18.family: not allowed; allowed: preact_resnet18, preact_resnet10, "
        "cifar_resnet18, wide_resnet34, wide_resnet16, wide_resnet10, resnet18, resnet50, resnet101 or external "
        "(given: \"resnet_18\"); did you mean 'resnet18'?"
    )


def test_all_faults_of_a_file_at_once(broken) -> None:
    text = TEXT
    for old, new in (
        ("ratio: 0.05", "ratio: 1.5"),
        ("epsilon: 8/255", "epsilon: 0.03"),
        ("family: preact_resnet18}", "family: resnet_18}"),
        ("attack: eot, dataset", "attack: eto, dataset"),
        ("epochs: 20", "epochs: 0"),
        ("cifar100: {source: digits20}", "cifar100: {sourse: digits20}"),
        ("seeds: [0, 1, 2]", "seeds: [0, 1, 2]\nseeds: [3]"),
    ):
        text = text.replace(old, new, 1)
    file = broken("schema: 1", "schema: 1", text)
    marks = ["seeds: [3]", "resnet_18", "1.5", "0.03", "eto", "epochs: 0", "sourse"]
    assert [fault.line for fault in find_faults(file)] == [line_of(text, mark) for mark in marks]
    with pytest.raises(SpecError) as error:
        load_suite(file, "smoke")
    lines = str(error.value).splitlines()
    assert lines[0] == f"{file}: 7 faults"
    assert all(line.startswith(f"  {file}:") for line in lines[1:])


# ---- across the file -------------------------------------------------------------------------------------------------


def test_a_view_over_members_needs_a_switching_defense(broken) -> None:
    fault = only(broken("{defense: r2s, attack: eot", "{defense: dense_at, attack: eot"))
    assert fault.key == "table.cells[5].attack"
    assert "the view eot" in fault.message
    assert "'dense_at' is none" in fault.message


def test_two_cells_that_give_one_row(broken) -> None:
    fault = only(broken("    variant: never stops\n", ""))
    assert fault.key == "table.cells[4]"
    assert "cell 3 gives too" in fault.message


def test_cells_that_differ_in_distance_are_two_rows(broken) -> None:
    text = TEXT.replace("    variant: never stops\n", "", 1)
    old = '    headline: true\n    epsilon: "8/255"'
    assert find_faults(broken(old, '    headline: true\n    epsilon: "4/255"', text)) == []
    assert len(find_faults(broken(old, '    headline: true\n    epsilon: "16/510"', text))) == 1


def test_cells_of_different_axes_do_not_collide(broken) -> None:
    added = "    - {defense: rst, attack: l2, network: wrn}\nprofiles:"
    assert find_faults(broken("profiles:", added)) == []
    fault = only(broken("profiles:", added.replace(", network: wrn", "")))
    assert "cell 6" in fault.message


def test_one_headline_for_each_entry(broken) -> None:
    fault = only(broken("    stop: source_fooled\n", "    stop: source_fooled\n    headline: true\n"))
    assert fault.key == "table.cells[4].attack"
    assert "second headline" in fault.message


def test_a_cell_outside_the_matrix(broken) -> None:
    fault = only(broken("dataset: [cifar10, cifar100]", "dataset: [cifar100]"))
    assert fault.key == "table.cells[5].dataset"
    assert "not in the matrix" in fault.message


def test_unused_definitions_are_no_fault(broken) -> None:
    assert find_faults(broken("networks:\n", "networks:\n  spare: {family: resnet50}\n")) == []


# ---- overlays --------------------------------------------------------------------------------------------------------


def test_a_fault_of_an_overlay_is_told_once_at_its_line(broken) -> None:
    file = broken("{family: wide_resnet10, width: 0.25}", "{family: wide_resnet11, width: 0.25}")
    fault = only(file)
    assert fault.key == "profiles.desk.networks.wrn.family"
    assert fault.suggestion in ("wide_resnet10", "wide_resnet16")
    assert fault.line == line_of(file.read_text(), "wide_resnet11")


def test_an_overlay_adds_an_unknown_key(broken) -> None:
    fault = only(broken("  desk:\n    seeds:", "  desk:\n    seed:"))
    assert (fault.key, fault.suggestion) == ("profiles.desk.seed", "seeds")
    assert "schema" not in fault.message


def test_a_definition_only_an_overlay_has_must_be_whole(broken) -> None:
    fault = only(broken("      preact18: {width: 0.25}\n", "      preact18: {width: 0.25}\n      new: {width: 1}\n"))
    assert fault.key == "profiles.desk.networks.new.family"
    assert "missing" in fault.message


def test_what_only_an_overlay_breaks_names_the_profile(broken) -> None:
    file = broken("dense_at: {kind: ticket", "r2s: {kind: ticket")
    fault = only(file)
    assert fault.key == "table.cells[5].attack"
    assert fault.message.startswith("under the overlay of profile smoke: the view eot")


def test_a_joint_fault_in_a_merged_mapping_stands_at_the_overlay(broken) -> None:
    file = broken("dense_at: {kind: ticket, search: rst, ratio: 1}", "r2s: {probabilities: [0.5, 0.5]}")
    fault = only(file)
    assert fault.key == "profiles.smoke.defenses.r2s"
    assert fault.message == "2 probabilities for 6 ratios"
    assert fault.line == line_of(file.read_text(), "probabilities")


@pytest.mark.parametrize("key", ["schema: 1", "name: other", "profiles: {}"])
def test_an_overlay_leaves_the_identity_alone(broken, key: str) -> None:
    fault = only(broken("  desk:\n", f"  desk:\n    {key}\n"))
    assert fault.key == f"profiles.desk.{key.split(':')[0]}"
    assert "cannot change" in fault.message


def test_an_overlay_is_a_mapping(broken) -> None:
    fault = only(broken("profiles:\n", "profiles:\n  paper: 5\n"))
    assert (fault.key, fault.value) == ("profiles.paper", "5")


# ---- the file itself -------------------------------------------------------------------------------------------------


def refused(path: Path) -> str:
    messages = set()
    for attempt in (load_suite, find_faults):
        with pytest.raises(SpecError) as error:
            attempt(path)
        messages.add(str(error.value))
    assert len(messages) == 1
    return messages.pop()


def test_missing_file_with_a_neighbour(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.yaml") == f"{tmp_path / 'none.yaml'}: no such file"
    (tmp_path / "table3.yaml").write_text(TEXT)
    assert f"did you mean '{tmp_path / 'table3.yaml'}'" in refused(tmp_path / "table3.yml")
    assert "no such file" in refused(tmp_path / "no" / "such" / "folder.yaml")


def test_directory(tmp_path: Path) -> None:
    assert "this is a directory" in refused(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"# nothing yet\n", "the file is empty"),
        (b"a: 1\nb: \xff\n", ":2: not UTF-8 text (byte 0xff)"),
        (b"- 1\n", ":1: a suite is a mapping"),
        (b"hello\n", ":1: a suite is a mapping"),
        (b"a: " + b"x" * 1_000_000, "at most 1000000"),
    ],
)
def test_no_text_to_find_faults_in(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_bytes(content)
    assert message in refused(path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(TEXT, encoding="utf-8-sig")
    assert find_faults(path) == []


def test_unknown_profile() -> None:
    with pytest.raises(SpecError, match=r"allowed: paper, express, desk or smoke; did you mean 'desk'\?"):
        load_suite(SAMPLE, "desktop")


def test_importing_the_specs_brings_no_torch_and_no_pandas() -> None:
    code = "import sys, rstbench.spec; print([m for m in ('torch', 'pandas', 'numpy') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[]"
