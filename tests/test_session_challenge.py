"""Challenges through the command: what is told, what is kept, what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from rstbench.build import Bench, run_node
from rstbench.build.images import images_at
from rstbench.build.rerun import RerunRow, rerun
from rstbench.errors import ChallengeError, RstbenchError, RunError, SpecError, StoreError
from rstbench.evaluation.craft import Target, craft
from rstbench.evaluation.files import unpack_images, unpack_samples
from rstbench.nodes import node_key
from rstbench.report.leaderboard.build import boards, write_boards
from rstbench.report.leaderboard.challenged import challenged
from rstbench.report.leaderboard.challenges import Judge, challenges_of
from rstbench.report.leaderboard.files import Scores, evidence, of_entry, read_csv, read_json, read_samples
from rstbench.report.leaderboard.suites import Ran
from rstbench.report.leaderboard.verify import verify
from rstbench.session import Request, plans_of
from rstbench.session_challenge import Handing, challenge
from rstbench.spec.attacks import PgdSpec
from rstbench.spec.budgets import written_out
from rstbench.spec.load import load_suite
from rstbench.store import Store
from tests.commands import main
from tests.suites import TINY, changed, written

SUITE = changed(
    TINY,
    ("  rst:\n    epochs: 1\n    batch: 256", "  rst:\n    epochs: 3\n    batch: 64"),
    (
        "table:\n",
        '  far: {kind: pgd, epsilon: "48/255", steps: 2, samples: 50, view: eot, report_as: far}\ntable:\n',
    ),
    ("ratios: [0.1, 0.3]}\n", "ratios: [0.1, 0.3]}\n  one: {kind: ticket, search: rst, ratio: 0.3}\n"),
    ("attack: eot}\n", "attack: eot}\n    - {defense: r2s, attack: far}\n    - {defense: one, attack: pgd20}\n"),
)
"""`far`: the same networks at another epsilon; `one`: one of the members alone."""


class Place:
    """A store, its leaderboard, and what the command said."""

    def __init__(self, folder: Path) -> None:
        self.root, self.csv = folder / "store", folder / "board" / "digits_linf.csv"
        self.said = ""

    @property
    def store(self) -> Store:
        return Store(self.root)

    def build(self, out: Path | None = None) -> None:
        suite = load_suite(self.root.parent / "tiny.yaml", "paper")
        plans = plans_of(Request([suite], "paper", self.root), self.store)
        ran = [Ran(each, "suites/tiny.yaml", (), {}) for each in plans]
        write_boards(boards(ran, self.store, lambda fields: (0, 0)), out or self.csv.parent)

    def entry(self, kind: str, epsilon: str = "24/255") -> str:
        (found,) = [r["entry"] for r in read_csv(self.csv) if (r["defense"], r["epsilon"]) == (kind, epsilon)]
        return found

    def row(self, entry: str) -> dict[str, str]:
        return next(row for row in read_csv(self.csv) if row["entry"] == entry)

    def challenge(self, entry: str, path: Path, **options: Any) -> int:
        text = StringIO()
        console = Console(file=text, width=200)
        code = challenge(Handing(f"{self.csv}#{entry}", path, **options), self.root, None, "cpu", console)
        self.said = text.getvalue()
        return code


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("challenge")
    written(folder, SUITE)
    store = Store(folder / "store")
    (plan,) = plans_of(Request([folder / "tiny.yaml"], "paper", store.root), store, create=True)
    bench = Bench(store, None, torch.device("cpu"))
    for node in plan.nodes.values():
        run_node(node, bench, lambda *_: None)
    Place(folder).build()
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Place:
    shutil.copytree(made, tmp_path / "here")
    return Place(tmp_path / "here")


def clean(place: Place, entry: str, count: int | None = None) -> tuple[np.ndarray[Any, Any], torch.Tensor]:
    """Test images that the entry's worst case rests on."""
    against = challenged(f"{place.csv}#{entry}", place.store)
    index = against.standing[0].index[:count]
    bench = Bench(place.store, None, torch.device("cpu"))
    return index, images_at({}, bench.arrays(against.data), index, torch.device("cpu"))[:]


def saved(place: Place, index: Any, images: torch.Tensor) -> Path:
    path = place.root.parent / "adv.npz"
    np.savez(path, index=index, images=images.permute(0, 2, 3, 1).numpy())
    return path


MADE: dict[tuple[str, int, int], tuple[Any, torch.Tensor]] = {}


def stronger(place: Place, entry: str, seed: int = 0, members: int = 2) -> Path:
    """Images of an attack on the last members with more steps than the table's; every test has the same store."""
    if (entry, seed, members) not in MADE:
        MADE[entry, seed, members] = attacked(place, entry, seed, members)
    return saved(place, *MADE[entry, seed, members])


def attacked(place: Place, entry: str, seed: int, members: int) -> tuple[Any, torch.Tensor]:
    against = challenged(f"{place.csv}#{entry}", place.store)
    index, images = clean(place, entry)
    bench = Bench(place.store, None, torch.device("cpu"))
    data = bench.arrays(against.data)
    networks = [bench.network(*judge.networks[0]) for judge in against.judges[0][-members:]]
    attack = PgdSpec(kind="pgd", view="eot", epsilon=against.epsilon, step_size="8/255", steps=10)
    target, labels = Target(networks, data.classes, bench.device), torch.from_numpy(data.test_labels[index])
    attack = written_out(attack, False, 8, True)
    return index, craft(target, images, labels, index.tolist(), attack, seed, lambda *_: None).images


def test_images_that_fall_further_lower_the_entry(place: Place) -> None:
    entry = place.entry("r2s")
    path = stronger(place, entry)
    before, files = place.row(entry), {each: each.read_bytes() for each in place.csv.parent.glob("digits*")}
    keys = set(place.store.holding("samples.parquet"))

    assert place.challenge(entry, path) == 0
    assert {each: each.read_bytes() for each in files} == files  # only told
    assert set(place.store.holding("samples.parquet")) == keys
    assert "Nothing is changed" in place.said

    assert place.challenge(entry, path, accept=True, by="Ada L.") == 0
    after = place.row(entry)
    assert float(after["worst"]) < float(before["worst"])
    assert f"worst: {before['worst']}" in place.said and f"-> {after['worst']} [{after['worst_low']}" in place.said
    assert after["challengers"] == "Ada L."
    same = set(after) - {"worst", "worst_low", "worst_high", "challengers", "evidence", "rank"}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    scores = of_entry(read_samples(place.csv.with_suffix(".samples.parquet")), entry)
    assert evidence(scores) == after["evidence"]
    assert f"{100 * scores['worst', 0].score.mean():.2f}" == after["worst"]

    # From then on it counts wherever the store does, and the same images lower nothing twice.
    rebuilt = place.root.parent / "again"
    place.build(rebuilt)
    for each in files:
        assert (rebuilt / each.name).read_bytes() == each.read_bytes(), each.name
    assert place.challenge(entry, path, accept=True, by="Eve") == RunError.exit_code
    assert "0 of 50 fall further" in place.said
    assert place.row(entry) == after


def test_the_score_of_an_image_is_the_expectation_over_members(place: Place) -> None:
    entry = place.entry("r2s")
    against = challenged(f"{place.csv}#{entry}", place.store)
    path = stronger(place, entry)
    assert place.challenge(entry, path, accept=True, by="Ada") == 0
    (found,) = challenges_of(place.store, against.judges, against.data, "linf", "24/255")
    with np.load(path) as file:
        index, images = file["index"], torch.from_numpy(file["images"]).permute(0, 3, 1, 2)
    bench = Bench(place.store, None, torch.device("cpu"))
    labels = bench.arrays(against.data).test_labels[index]
    right = []
    for judge in against.judges[0]:
        network = bench.network(*judge.networks[0]).eval()
        with torch.no_grad():
            right.append(network(images).argmax(1).numpy() == labels)
    expected = np.mean(right, axis=0)
    assert len(right) == 2 and set(expected) > {0.5}
    order = np.argsort(index)
    assert np.array_equal(found.index, index[order])
    assert np.array_equal(found.scores(against.probabilities)[0], expected[order])
    standing = against.standing[0]
    worst = of_entry(read_samples(place.csv.with_suffix(".samples.parquet")), entry)["worst", 0]
    assert np.array_equal(worst.score, np.minimum(standing.score, expected[np.argsort(index)]))


def test_a_challenge_counts_at_larger_epsilons_of_the_same_networks_only(place: Place) -> None:
    near, far, other = place.entry("r2s"), place.entry("r2s", "48/255"), place.entry("dense")
    others = place.row(other)
    assert place.challenge(near, stronger(place, near), accept=True, by="Ada") == 0
    against = challenged(f"{place.csv}#{near}", place.store)
    asked = against.judges, against.data
    assert len(challenges_of(place.store, *asked, "linf", "48/255")) == 1
    assert challenges_of(place.store, *asked, "linf", "23/255") == []
    assert challenges_of(place.store, *asked, "l2", 5.0) == []
    assert challenges_of(place.store, [against.judges[0][::-1]], against.data, "linf", "24/255") != []
    dense = challenged(f"{place.csv}#{other}", place.store)
    assert challenges_of(place.store, dense.judges, dense.data, "linf", "24/255") == []
    assert place.row(other) | {"rank": ""} == others | {"rank": ""}

    # The other way round, an image beyond the smaller epsilon counts at the larger one alone.
    lower = place.row(near)
    code = place.challenge(far, stronger(place, far), accept=True, by="Bob")
    assert code == 0, place.said
    assert place.row(near) == lower
    assert "Bob" in place.row(far)["challengers"]


def test_all_entries_that_a_challenge_concerns_are_written_as_a_build_would(place: Place) -> None:
    near, far, one = place.entry("r2s"), place.entry("r2s", "48/255"), place.entry("ticket")
    before = {name: place.row(name) for name in (near, far, one)}
    assert place.challenge(near, stronger(place, near, members=1), accept=True, by="Ada") == 0
    after = {name: place.row(name) for name in before}
    assert {name for name in before if before[name]["worst"] != after[name]["worst"]} >= {near, one}
    place.build(place.root.parent / "again")
    for path in place.csv.parent.glob("digits*"):
        assert (place.root.parent / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    assert verify(place.csv, place.store, lambda fields: (0, 0)).findings == ()


def test_the_clean_images_lower_nothing(place: Place) -> None:
    entry = place.entry("r2s")
    assert place.challenge(entry, saved(place, *clean(place, entry)), accept=True, by="Ada") == RunError.exit_code
    assert "0 of 50 fall further" in place.said
    assert place.store.holding("challenge.json") == []


def test_images_beside_the_entrys_are_ignored_and_said(place: Place) -> None:
    entry = place.entry("r2s")
    index, images = clean(place, entry, 3)
    beside = next(i for i in range(359) if i not in clean(place, entry)[0])
    bench = Bench(place.store, None, torch.device("cpu"))
    against = challenged(f"{place.csv}#{entry}", place.store)
    one = images_at({}, bench.arrays(against.data), np.array([beside]), torch.device("cpu"))[:]
    place.challenge(entry, saved(place, [*index, beside], torch.cat([images, one])))
    assert "4 images handed in" in place.said and "1 of them are not among the entry's 50; ignored" in place.said
    with pytest.raises(ChallengeError, match="none of the 1 images"):
        place.challenge(entry, saved(place, [beside], one))


@pytest.mark.parametrize("shift, honest", [(0, True), (2e-7, True), (1e-5, False), (1 / 255, False)])
def test_the_budget_is_that_of_our_own_attacks(place: Place, shift: float, honest: bool) -> None:
    entry = place.entry("r2s")
    index, images = clean(place, entry, 5)
    moved = images.clone()
    moved[2, 0, 0, 0] += (24 / 255 + shift) * (1 if moved[2, 0, 0, 0] < 0.5 else -1)
    path = saved(place, index, moved)
    if honest:
        place.challenge(entry, path)
        return
    with pytest.raises(ChallengeError, match=rf"1 of 5 images .* test image {index[2]}, is 0.09"):
        place.challenge(entry, path)


def test_a_kept_challenge_is_found_out_if_it_is_not_what_was_handed_in(place: Place) -> None:
    entry = place.entry("r2s")
    against = challenged(f"{place.csv}#{entry}", place.store)
    assert place.challenge(entry, stronger(place, entry), accept=True, by="Ada") == 0
    (found,) = challenges_of(place.store, against.judges, against.data, "linf", "24/255")
    row = RerunRow("challenge", (0,), tuple((members,) for members in found.predictions), against.probabilities)
    honest = rerun([row], place.store, None, 50, 1, "cpu")
    assert {each.step for each in honest} == {"images", "judged"}
    assert not any(each.contradicted for each in honest)

    value = place.store.value(found.key)
    record, files = json.loads(json.dumps(dict(value.record))), {n: value.read(n) for n in value.record["files"]}
    from rstbench.evaluation.files import pack_images

    files["images.safetensors"] = pack_images(1 - unpack_images(files["images.safetensors"], "here"))
    shutil.rmtree(value.directory)
    place.store.write(found.key, record, files)
    (images, judged) = rerun([row], place.store, None, 50, 1, "cpu")
    assert images.contradicted and "not those that were handed in" in images.text and "beyond its budget" in images.text
    assert judged.contradicted

    shutil.rmtree(value.directory)
    record["spec"]["epsilon"] = "1/255"
    place.store.write(found.key, record, files)
    with pytest.raises(StoreError, match="not that of the challenge"):
        challenges_of(place.store, against.judges, against.data, "linf", "24/255")


def test_who_is_credited_first_stays(place: Place) -> None:
    entry = place.entry("r2s")
    for i, name in enumerate(("Ada", "=cmd()", "Ada")):
        assert place.challenge(entry, stronger(place, entry, seed=i), accept=True, by=name) in (0, 1)
    row = place.row(entry)
    names = row["challengers"].split("; ")
    assert len(set(names)) == len(names) and names[0] == "Ada"
    board = read_json(place.csv.with_suffix(".json"))
    found = board.entry(entry)
    assert found is not None and found.challenges[0].by == "Ada"
    assert [each.date for each in found.challenges] == sorted(each.date for each in found.challenges)


def test_where_the_lowered_files_go(place: Place) -> None:
    entry = place.entry("r2s")
    before = place.csv.read_bytes()
    out = place.root.parent / "new" / "folder"
    assert place.challenge(entry, stronger(place, entry), accept=True, by="Ada", out=out) == 0
    assert place.csv.read_bytes() == before
    assert {each.name for each in out.iterdir()} == {
        "digits_linf.csv", "digits_linf.json", "digits_linf.samples.parquet",
    }  # fmt: skip
    # The file in place is behind the store now, and is not lowered from what it says.
    with pytest.raises(StoreError, match=r"has worst .* the store .* says .*leaderboard build"):
        place.challenge(entry, stronger(place, entry, seed=1), accept=True, by="Bob")


def tampered(path: Path, column: str, text: str) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row[column] = text
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_a_file_that_was_tampered_with_is_not_written_anew(place: Place) -> None:
    entry = place.entry("r2s")
    path = stronger(place, entry)
    tampered(place.csv, "clean", "99.99")
    with pytest.raises(StoreError, match="differ; `rstbench leaderboard verify"):
        place.challenge(entry, path, accept=True, by="Ada")
    assert place.store.holding("challenge.json") == []
    tampered(place.csv, "evidence", "0" * 64)
    with pytest.raises(StoreError, match="not those that its row was computed from"):
        place.challenge(entry, path)


@pytest.mark.parametrize(
    "entry, options, kind, message",
    [
        ("0" * 12, {}, SpecError, "no entry '000000000000'; it has"),
        ("", {}, SpecError, "write CSV#ENTRY"),
        (None, {"accept": True}, SpecError, "--accept needs --by"),
        (None, {"accept": True, "by": "a\nb"}, SpecError, "on one line"),
        (None, {"accept": True, "by": "a; b"}, SpecError, "no semicolon"),
        (None, {"by": "x" * 81}, SpecError, "at most 80"),
    ],
)
def test_misuse_ends_in_one_message(
    place: Place, entry: str | None, options: dict[str, Any], kind: type[RstbenchError], message: str
) -> None:
    name = place.entry("r2s") if entry is None else entry
    with pytest.raises(kind, match=message):
        place.challenge(name, saved(place, *clean(place, place.entry("r2s"), 2)), **options)


def test_the_command_says_one_thing_and_how_it_went(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = place.entry("r2s")
    options = ("--store", place.root, "--device", "cpu")
    path = stronger(place, entry)
    assert main(monkeypatch, "challenge", f"{place.csv}#{entry}", path, *options) == 0
    assert "fall further" in capsys.readouterr().out
    nothing = saved(place, *clean(place, entry))
    assert main(monkeypatch, "challenge", f"{place.csv}#{entry}", nothing, *options) == 1
    np.savez(path, index=[0, 1], images=np.array([{}, {}], dtype=object))
    assert main(monkeypatch, "challenge", f"{place.csv}#{entry}", path, *options) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"rstbench: {path}: images holds Python objects") and said.err.count("\n") == 1


def test_names_that_are_nearly_right_are_suggested(place: Place) -> None:
    entry = place.entry("r2s")
    with pytest.raises(SpecError, match=f"did you mean '{entry}'"):
        challenged(f"{place.csv}#{entry[:-1]}x", place.store)


def test_keys_of_verdicts_are_those_of_plain_predictions() -> None:
    one = Judge((("a" * 64, "last"),)).asked("c" * 64)
    spec = {"checkpoint": "last", "batch": 64, "threads": 1}
    assert one.key == node_key("predict", spec, {"images": "c" * 64, "target": "a" * 64})
    several = Judge((("a" * 64, "last"), ("b" * 64, "best")), "logits").asked("c" * 64)
    assert several.inputs == {"images": "c" * 64, "target_0": "a" * 64, "target_1": "b" * 64}
    assert several.spec == {**spec, "checkpoint": ["last", "best"], "average": "logits"}


def test_a_challenge_that_is_not_at_hand_cannot_be_computed(place: Place) -> None:
    from rstbench.report.leaderboard.challenges import challenge_node

    against = challenged(f"{place.csv}#{place.entry('r2s')}", place.store)
    node = challenge_node("0" * 64, 3, against.data, "linf", "24/255")
    with pytest.raises(RunError, match="`rstbench challenge` brings them"):
        run_node(node, Bench(place.store, None, torch.device("cpu")), lambda *_: None)
    assert challenge_node("0" * 64, 3, against.data, "linf", "48/510").key == node.key


def test_lowered_scores_are_minima_in_the_order_of_handing_in() -> None:
    from rstbench.report.leaderboard.challenges import Challenge, lowered

    def handed(by: str, index: list[int], right: list[list[bool]]) -> Challenge:
        return Challenge("0" * 64, by, by, np.array(index), (("k",),), (np.array(right),))

    standing = [Scores(np.array([9, 2, 5]), np.zeros(3, dtype=np.int64), np.array([1.0, 0.5, 0.5]))]
    found = lowered(
        [each.index for each in standing],
        [each.score for each in standing],
        [
            handed("a", [2, 5, 7], [[True, True], [False, False], [False, False]]),
            handed("b", [5], [[False, False]]),
            handed("c", [2, 9], [[True, False], [True, False]]),
        ],
        [0.5, 0.5],
    )
    assert found.scores[0].tolist() == [0.5, 0.5, 0.0]
    assert (found.names, found.fell) == (("a", "c"), (1, 1))
    assert standing[0].score.tolist() == [1.0, 0.5, 0.5]


def test_images_are_kept_exactly(place: Place) -> None:
    entry = place.entry("r2s")
    path = stronger(place, entry)
    assert place.challenge(entry, path, accept=True, by="Ada") == 0
    (key,) = place.store.holding("challenge.json")
    value = place.store.value(key)
    kept = unpack_images(value.read("images.safetensors"), "here")
    with np.load(path) as file:
        order = np.argsort(file["index"])
        assert np.array_equal(kept.numpy(), file["images"][order].transpose(0, 3, 1, 2))
        columns = unpack_samples(value.read("samples.parquet"), "here", ("linf", "l2"))
        assert np.array_equal(columns["index"], file["index"][order])
    assert columns["linf"].max() <= 24 / 255 + 1e-6
    assert value.record["by"] == "Ada" and value.record["handed_in"].endswith("+00:00")
