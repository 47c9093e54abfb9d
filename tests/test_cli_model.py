"""`rstbench eval` and `rstbench curves`, as people use them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from safetensors.torch import save_file

from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.networks.spec import ModelSpec
from rstbench.store import STORE_ENV
from tests.commands import main, rstbench
from tests.suites import TINY, changed, written

PLUGIN = """
import torch
from torch import nn


def build(task, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    weight = scale * torch.randn(task.classes, task.channels * task.image_size**2, generator=generator)
    layer = nn.Linear(weight.shape[1], task.classes)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(-weight.sum(1) / 3)
    return nn.Sequential(nn.Flatten(), layer)


RSTBENCH_NETWORKS = {"mine": build}
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(STORE_ENV, raising=False)
    monkeypatch.delenv("RSTBENCH_DATA", raising=False)


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


SMALL = ("--attack", "fgsm", "--attack", "pgd3", "--samples", 20, "--device", "cpu", "--workers", 1, "--store", "store")


def test_a_network_of_a_plug_in(tmp_path: Path) -> None:
    (tmp_path / "my_networks.py").write_text(PLUGIN)
    command = ("eval", "plugin:mine", "--dataset", "digits", "--plugin", "my_networks", *SMALL)
    done = rstbench(*command, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    # Data, the model, two attacks, and what it says of clean and of attacked images.
    assert done.stdout.startswith("7 of 7 nodes to compute")
    out = tmp_path / "results" / "eval-mine-digits-linf-8_255"
    found = rows(out / "table.csv")
    assert [row["attack"] for row in found] == ["none", "fgsm", "pgd3", "pointwise"]
    assert all((row["run_network"], row["n"], row["eps"]) == ("plugin:mine", "20", "8") for row in found[1:])
    accuracy = [float(row["ours"]) for row in found]
    assert accuracy[3] <= min(accuracy[:3])
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    again = rstbench(*command, cwd=tmp_path)
    assert again.returncode == 0 and again.stdout.startswith("all 7 nodes are in the store; nothing to compute\n")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    # A network that is another one now is evaluated anew.
    (tmp_path / "my_networks.py").write_text(PLUGIN.replace("manual_seed(0)", "manual_seed(1)"))
    assert rstbench(*command, cwd=tmp_path).stdout.startswith("6 of 7 nodes to compute")


def test_a_file_of_ours(tmp_path: Path) -> None:
    spec = ModelSpec(
        family="preact_resnet10", width=0.06, classes=10, channels=1, image_size=8, mean=(0.5,), std=(0.5,),
        bn_affine=True, classifier_bias=True,
    )  # fmt: skip
    network = build(spec)
    initialise(network, "kaiming_normal", 0)
    (tmp_path / "data").mkdir()
    state = {name: value.detach().clone().contiguous() for name, value in network.state_dict().items()}
    save_file(state, tmp_path / "data" / "net.safetensors")
    command = ("eval", "rstbench:preact_resnet10", "--file", "net.safetensors", "--width", 0.06, "--dataset", "digits",
               "--data-dir", "data", "--out", "out", "--norm", "l2", "--epsilon", 0.3, "--attack", "pgd_l2",
               "--samples", 20, "--device", "cpu", "--workers", 1, "--store", "store")  # fmt: skip
    done = rstbench(*command, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    found = rows(tmp_path / "out" / "table.csv")
    assert [(row["attack"], row["norm"], row["eps"]) for row in found] == [("none", "", ""), ("pgd_l2", "l2", "0.3")]
    again = rstbench(*command, cwd=tmp_path)
    assert again.returncode == 0 and "nothing to compute" in again.stdout.splitlines()[0]


def refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What is said, on standard error only, by a command that must end with code 2."""
    code = main(monkeypatch, *arguments)
    out, err = capfd.readouterr()
    assert (code, out) == (2, "") and "Traceback" not in err and err.strip()
    return err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["mine"], "a model is SOURCE:NAME"),
        (["plugin:mine"], "no plug-in registers a network 'mine'"),
        (["plugin:mine", "--plugin", "no_such_module"], "--plugin|plug-in module 'no_such_module'"),
        (["plugin:mine", "--plugin", "networks.py"], "plug-in module 'networks.py'"),
        (["plugin:mine", "--width", "0.5"], "`width` means nothing for source plugin"),
        (["plugin:mine", "--attack", "pgd"], "no attack is called 'pgd'"),
        (["plugin:mine", "--norm", "l2", "--epsilon", "8/255"], "an L2 epsilon is a number"),
        (["plugin:mine", "--norm", "l2", "--attack", "fgsm"], "attack 'fgsm' is of norm linf"),
        (["plugin:mine", "--epsilon", "8"], "epsilon"),
        (["plugin:mine", "--samples", "0"], "--samples"),
        (["plugin:mine", "--dataset", "digit"], "did you mean 'digits'?"),
        (["robustbench:Standard"], "source robustbench needs `threat`"),
        (["rstbench:resnet18", "--file", "../net.pt"], "without '..'"),
        (["rstbench:resnet18", "--file", "net.safetensors"], "net.safetensors"),
        (["timm:resnet18", "--file", "net.exe"], "must end in .safetensors"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_models_that_are_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    data = [] if "--dataset" in arguments else ["--dataset", "digits"]
    message = refused(monkeypatch, capfd, "eval", *arguments, *data, "--device", "cpu")
    assert any(part in message for part in words.split("|"))
    assert not Path("results").exists()


# ---- curves ----------------------------------------------------------------------------------------------------------

CURVES = changed(
    TINY, ("{kind: pgd, epsilon: \"24/255\", steps: 2, samples: 50, stop: source_fooled}",
           "{kind: pgd, epsilon: \"24/255\", steps: 2, samples: 20}"),
)  # fmt: skip
COMMON = ("--profile", "smoke", "--store", "store")


def test_curves_of_one_attack(tmp_path: Path) -> None:
    path = written(tmp_path, CURVES)
    command = ("curves", path, "--defense", "dense_at", "--attack", "pgd20", "--axis", "restarts", "--axis", "epsilon",
               *COMMON, "--device", "cpu", "--workers", 1)  # fmt: skip
    done = rstbench(*command, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    out = tmp_path / "results" / "tiny-curves-dense_at-pgd20-smoke"
    assert {"curves.csv", "curves.png", "curves.svg", "table.csv"} <= {path.name for path in out.iterdir()}
    found = rows(out / "curves.csv")
    assert [row["axis"] for row in found].count("restarts") == 4
    values = [float(row["value"]) for row in found if row["axis"] == "epsilon"]
    assert values[0] == 0 and values[-1] == 1 and values == sorted(values)
    assert all(row["n"] == "20" for row in found)
    (last,) = [line for line in done.stdout.splitlines() if line.startswith("curves: ")]
    assert all((tmp_path / part).is_file() for part in last.removeprefix("curves: ").split(", "))
    again = rstbench(*command, cwd=tmp_path)
    assert again.returncode == 0 and "nothing to compute" in again.stdout.splitlines()[0]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (
            ["--defense", "dense", "--attack", "pgd20"],
            "suite tiny has no 'dense' in `defenses`; there are dense_at, r2s",
        ),
        (["--defense", "dense_at", "--attack", "pgd"], "suite tiny has no 'pgd' in `attacks`"),
        (["--defense", "dense_at", "--attack", "clean"], "attack 'clean' makes no images"),
        (["--defense", "dense_at", "--attack", "pgd20", "--axis", "step"], "--axis 'step': a curve is over steps"),
        (["--defense", "dense_at"], "--attack"),
        (["--attack", "pgd20"], "--defense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_curves_that_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    assert words in refused(monkeypatch, capfd, "curves", written(tmp_path, CURVES), *arguments, *COMMON)
    assert not Path("results").exists() and not Path("store").exists()


def test_a_view_over_members_needs_a_switch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ("--defense", "dense_at", "--attack", "eot", *COMMON, "--device", "cpu")
    assert "and 'dense_at' is none" in refused(monkeypatch, capfd, "curves", written(tmp_path, CURVES), *options)


def test_curves_of_profile_paper_need_a_gpu_to_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code = main(monkeypatch, "curves", written(tmp_path, CURVES), "--defense", "dense_at", "--attack", "pgd20")
    out, err = capfd.readouterr()
    assert code == 2 and "GPU-hours" in out and err.startswith("rstbench: profile paper needs a GPU")
    assert not Path("results").exists() and not Path(".rstbench").exists()


def test_a_curve_that_keeps_what_fell(tmp_path: Path) -> None:
    path = written(tmp_path, CURVES)
    command = ("curves", path, "--defense", "dense_at", "--attack", "pgd20", "--axis", "epsilon", "--reuse", *COMMON,
               "--device", "cpu", "--workers", 1)  # fmt: skip
    done = rstbench(*command, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "epsilon: what fell at a smaller one is kept (--reuse)" in done.stdout
    found = rows(tmp_path / "results" / "tiny-curves-dense_at-pgd20-reuse-smoke" / "curves.csv")
    right = [round(float(row["accuracy"]) * 20 / 100) for row in found]
    assert right == sorted(right, reverse=True), "what fell stays down"
    kept = [row["kept"] for row in found]
    # Every image that is wrong at one epsilon is kept at the next.
    assert kept[:2] == ["", ""] and [int(each) for each in kept[2:]] == [20 - count for count in right[1:-1]]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--defense", "r2s", "--attack", "pgd20"), "only one network that is attacked and judged itself"),
        (("--defense", "dense_at", "--attack", "pgd20", "--source", "r2s"), "here others judge them too"),
        (("--defense", "dense_at", "--attack", "pgd20", "--axis", "steps"), "no curve is over epsilon"),
    ],
)
def test_nothing_is_kept_for_other_networks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    common = ("--reuse", *COMMON, "--device", "cpu")
    assert words in refused(monkeypatch, capfd, "curves", written(tmp_path, CURVES), *arguments, *common)
