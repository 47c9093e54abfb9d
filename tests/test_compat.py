from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from rstbench import compat


def run(code: str) -> None:
    """In an interpreter of its own, where none of the libraries was imported before; warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_importing_compat_imports_and_changes_nothing() -> None:
    run("""
        import sys
        from rstbench import compat
        assert not {"torch", "advertorch", "robustbench", "autoattack", "pyautoattack"} & set(sys.modules)
    """)


def test_all_import_in_a_fresh_interpreter_without_setuptools_and_leave_no_trace() -> None:
    run("""
        import importlib.util, sys
        from pathlib import Path
        import torch.autograd.gradcheck
        from rstbench import compat

        find_spec = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name == "pkg_resources" else find_spec(name, *rest)
        state = torch.get_rng_state()
        advertorch, robustbench = compat.import_advertorch(), compat.import_robustbench()
        assert advertorch is compat.import_advertorch() and robustbench is compat.import_robustbench()
        assert torch.equal(state, torch.get_rng_state())
        assert not hasattr(torch.autograd.gradcheck, "zero_gradients")
        assert not {"autoattack", "autoattack.state", "pkg_resources"} & set(sys.modules)
        resources = robustbench.loaders.pkg_resources
        for module in ("robustbench.loaders", "robustbench"):
            assert Path(resources.resource_filename(module, "helper_files/imagenet_test_image_ids.txt")).is_file()
    """)


def test_robustbench_has_what_we_use() -> None:
    robustbench = compat.import_robustbench()
    from robustbench.eval import benchmark
    from robustbench.utils import load_model

    assert robustbench.utils.load_model is load_model and robustbench.eval.benchmark is benchmark


def test_robustbench_benchmarks_a_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    robustbench = compat.import_robustbench()
    model = _Centred(nn.Sequential(nn.Flatten(), nn.Linear(48, 10))).eval()
    images = torch.rand(4, 3, 4, 4)
    labels = model(images).argmax(1)
    labels[0] = (labels[0] + 1) % 10
    monkeypatch.setattr(robustbench.eval, "load_clean_dataset", lambda *_: (images, labels))
    log = tmp_path / "log.txt"
    clean, robust = robustbench.benchmark(
        model, n_examples=4, eps=0.5, device=torch.device("cpu"), batch_size=2, log_path=str(log)
    )
    assert clean == 0.75 and robust == 0.0
    assert "initial accuracy: 75.00%" in log.read_text()
    assert not logging.getLogger("auto-attack").handlers


@pytest.fixture
def linear() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([torch.ones(12), -torch.ones(12)]) * 5)  # type: ignore[union-attr, operator]
    return model


class _Centred(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images - 0.5)  # type: ignore[no-any-return]


def test_carlini_wagner_finds_the_boundary_of_a_linear_model(linear: nn.Module) -> None:
    attacks = compat.import_advertorch().attacks
    model = _Centred(linear)
    images = torch.full((2, 3, 2, 2), 0.55) + 0.01 * torch.rand(2, 3, 2, 2)
    labels = torch.zeros(2, dtype=torch.int64)
    attack = attacks.CarliniWagnerL2Attack(
        model, 2, confidence=0, binary_search_steps=1, max_iterations=100, initial_const=0.1, learning_rate=0.01,
        abort_early=True, clip_min=0.0, clip_max=1.0,
    )  # fmt: skip
    adversarial = attack.perturb(images, labels)
    assert (model(images).argmax(1) == 0).all() and (model(adversarial).argmax(1) == 1).all()
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    # Distance of the plane sum(x - 1/2) = 0 along its normal.
    closest = (images - 0.5).flatten(1).sum(1) / 12**0.5
    distance = (adversarial - images).flatten(1).norm(dim=1)
    assert (distance >= closest - 1e-5).all() and (distance <= 1.2 * closest).all()


def test_fab_works_with_the_lent_function(linear: nn.Module) -> None:
    attacks = compat.import_advertorch().attacks
    model = _Centred(linear)
    images = torch.full((2, 3, 2, 2), 0.55)
    adversarial = attacks.L2FABAttack(model, n_iter=5).perturb(images, torch.zeros(2, dtype=torch.int64))
    assert (model(adversarial).argmax(1) == 1).all()


def test_autoattack_runs(linear: nn.Module) -> None:
    autoattack = compat.import_autoattack()
    model = _Centred(linear)
    images = torch.full((2, 3, 2, 2), 0.55)
    attack = autoattack.AutoAttack(model, norm="Linf", eps=0.1, version="custom", attacks=["apgd-ce"], seed=0)
    adversarial, predictions = attack.run_standard_evaluation(images, torch.zeros(2, dtype=torch.int64), batch_size=2)
    assert (predictions == 1).all()
    assert (model(adversarial).argmax(1) == 1).all() and (adversarial - images).abs().max() <= 0.1 + 1e-6
