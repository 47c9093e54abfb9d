"""What the benchmarks themselves rely on; nothing is timed here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.spec.training import InnerAttack, SearchSpec
from rstbench.tickets.search import Scores
from rstbench.training import Run, generator
from tests.benchmarks import test_gpu
from tests.benchmarks.plain import AppliedMask, PlainSearch
from tests.benchmarks.results import Results, Row, read
from tests.benchmarks.tables import PAGE, lines, main, rewritten
from tests.networks.specs import digits, spec

MACHINE = {"hardware": "A core", "cores": 2, "threads": 2, "torch": "2", "python": "3", "device": "cpu"}
ROW = Row("PGD", "batch 4", "an attack", "fp32", "plain", 3, 2.0, 1.9, 2.2, 1.5, 3.0, 1.8)


def test_a_later_run_replaces_what_it_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "bench.json"
    first = Results(path, MACHINE)
    first.add(ROW)
    first.add(replace(ROW, setting="batch 8"))
    again = Results(path, MACHINE)
    again.add(replace(ROW, ratio=2.5))
    machine, rows = read(path)
    assert machine == MACHINE
    assert [(row.setting, row.ratio) for row in rows] == [("batch 4", 2.5), ("batch 8", 2.0)]
    Results(path, MACHINE | {"threads": 1}).add(ROW)
    assert len(read(path)[1]) == 1, "rows of another machine or setting do not stand beside these"


def test_floors() -> None:
    assert ROW.held is True and replace(ROW, ratio=1.7).held is False and replace(ROW, floor=None).held is None
    timed = replace(ROW, ratio=None, reference="", reference_seconds=None, floor=2.0)
    assert timed.held is True and replace(timed, seconds=2.1).held is False


def test_tables_are_written_into_their_place_only(tmp_path: Path) -> None:
    page, path = tmp_path / "page.md", tmp_path / "bench.json"
    page.write_text("before\n<!-- bench bench -->\nold\n<!-- end bench -->\nafter\n")
    Results(path, MACHINE).add(replace(ROW, ratio=1.7))
    assert main([str(path), "--page", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- bench bench -->\nA core, 2 cores, 2 threads") and text.endswith("after\n")
    assert "\nold\n" not in text and "| 1.70 (1.90 to 2.20, n = 3) | ≥ 1.80 ✗ **missed** |" in text
    assert rewritten(text, "bench", lines(*read(path))) == text and "Other work" not in text
    assert "Other work ran meanwhile" in "\n".join(lines(MACHINE, [replace(ROW, load=7.5)]))
    with pytest.raises(SystemExit):
        main([str(path), str(path), "--page", str(page)])
    path.rename(tmp_path / "other.json")
    with pytest.raises(SystemExit):
        main([str(tmp_path / "other.json"), "--page", str(page)])


def test_the_page_has_its_places() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in ("bench", "bench_peers", "bench_cuda"):
        assert rewritten(text, name, ["a table"]).count("a table") == 1


@pytest.mark.parametrize("kind", ["pgd", "fgsm_rs"])
def test_the_reference_has_the_bits_of_our_step(kind: str) -> None:
    settings = SearchSpec(inner=InnerAttack(kind=kind, steps=2))
    networks = []
    for _ in range(2):
        networks.append(build(digits("preact_resnet10", width=0.125)))
        initialise(networks[-1], "signed_kaiming_constant", 3)
    subject = Scores(networks[0], 0.2, "element", settings, seed=3)
    run = Run(subject, settings, 3, torch.device("cpu"))
    plain = PlainSearch(networks[1], subject.variables, 0.2, settings)
    plain.masked.stable = True
    images, labels = torch.rand(6, 1, 8, 8), torch.arange(6)
    for number in range(2):
        run.step(images, labels, settings.lr, generator(number))
        plain.step(images, labels, generator(number))
    for name, scores in subject.variables.items():
        assert scores.detach().numpy().tobytes() == plain.masked.scores[name].detach().numpy().tobytes(), name
    subject.refresh()
    subject.network.eval()
    plain.masked.eval()
    assert torch.equal(subject.network(images), plain.masked(images))
    assert torch.equal(AppliedMask(plain.masked)(images), plain.masked(images))


def test_what_measures_a_gpu_runs_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_gpu, "PRODUCT", 32)
    monkeypatch.setattr(test_gpu, "model_of", lambda family: spec(family, width=0.0625))
    device = torch.device("cpu")
    assert test_gpu._matrix_rate(device) > 0
    run = test_gpu._run(test_gpu.ENGINES["bf16, channels_last"], device)
    plain = PlainSearch(test_gpu._network(device), run.subject.variables, test_gpu.RATIO, SearchSpec())
    images, labels = test_gpu._batch(4, device)
    before = {name: scores.detach().clone() for name, scores in plain.masked.scores.items()}
    run.step(images, labels, test_gpu.LR, generator(1))
    plain.step(images, labels, torch.Generator(device).manual_seed(0))
    for name, scores in before.items():
        assert not torch.equal(scores, plain.masked.scores[name])
        assert not torch.equal(scores, run.subject.variables[name])
