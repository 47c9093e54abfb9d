"""Everything that a test runs in place of what a page says, because that needs a download, a GPU or hours.

What is not named here runs as it stands on the page. A command that fits nothing here and cannot be run fails.
"""

from __future__ import annotations

SUITES = {
    "my_tickets": [
        ("epochs: 6", "epochs: 1"),
        ("width: 0.25", "width: 0.06"),
        ('pgd20: {kind: pgd, epsilon: "16/255"}', 'pgd20: {kind: pgd, epsilon: "16/255", steps: 5, samples: 64}'),
        (
            'eot: {kind: pgd, epsilon: "16/255", view: eot}',
            'eot: {kind: pgd, epsilon: "16/255", view: eot, steps: 5, samples: 64}',
        ),
    ]
}
"""Suites that stand on pages: shorter texts, by their name."""

TABLE3 = {
    "matrix": {"network": ["preact_resnet18"], "dataset": ["cifar10"]},
    "networks": {"preact_resnet18": {"family": "preact_resnet10", "width": 0.06}},
    "trainings": {"adversarial": {"epochs": 1}},
    "searches": {"adversarial": {"epochs": 1}},
    "defenses": {"r2s": {"ratios": [0.10, 0.30]}},
    "attacks": {name: {"samples": 64, "steps": 5} for name in ("pgd20", "pgd20_never", "eot", "ensemble")},
}
"""What the profile smoke of suites/table3_r2s.yaml becomes where it is run."""

SHIPPED = ("table3_r2s", "guard", "mine")
"""Suites that are run, under profile smoke: all are Table 3's, made small. As they are shipped, they are planned."""

WORDS = {"DIR": "data", "DATA": "data", "STORE": ".rstbench", "S": ".rstbench"}
"""Words that stand for a reader's own folders."""

OPTIONS = {
    "run": ["--workers", "1", "--device", "cpu"],
    "eval": ["--workers", "1", "--device", "cpu"],
    "curves": ["--workers", "1", "--device", "cpu"],
}
"""Options that commands get in addition."""

PLANNED = ("run", "curves")
"""Commands that are not run but planned (`rstbench plan` with the same suites and options), unless all of their suites
are among `SUITES` and `SHIPPED`, the latter under profile smoke."""

ALWAYS_PLANNED = ("calibrate",)
"""Commands that are only planned: they measure a machine, which takes long whatever the suite."""

CHANGED = {
    "eval rstbench:preact_resnet18": {"cifar10": "digits --width 0.06 --attack fgsm", "1000": "20"},
    "eval plugin:my_network": {"cifar10": "digits --attack fgsm --samples 20"},
    "curves suites/table3_r2s.yaml": {"epsilon": "restarts", "r2s": "dense_at"},
}
"""Commands that run with other words: by how they begin, each word and what takes its place."""

REFUSED = {
    "eval robustbench:": "CIFAR-10 was not found",
    "eval torchvision:": "ImageNet was not found",
    "eval timm:": "CIFAR-10 was not found",
}
"""Commands that would download or take long: they run where their data is not, and must say only that it is missing."""

NOT_RUN = {
    r"python3 -m venv \.venv": "makes an environment",
    r"\.venv/bin/pip install (uv|tox-uv)": "downloads",
    r"\.venv/bin/uv pip install -p \.venv -e '?\.(\[(?P<extra>\w+)\])?'?": "downloads; its extra exists",
    r"\. \.venv/bin/activate": "there is no such environment",
    r"pre-commit install": "changes the clone's hooks",
    r"(\.venv/bin/)?tox( -e (?P<env>[\w,-]+))?( -- .*)?": "takes minutes; its environment exists, and its paths do",
    r"(python -m )?pytest( .*)?": "takes minutes; its paths exist (what a page itself has as a test, is run)",
    r"python tests/benchmarks/tables\.py .*": "needs the files of a benchmark; the script exists",
    r"rstbench data download \w+": "downloads; the data set is known",
}
"""Commands that are not run, why, and what is checked all the same (in `shell.not_run`)."""

CONFTEST = """
import pytest
import torch
from torch import nn


class Sides(nn.Module):
    def forward(self, images):
        left, right = images[..., :4].mean((1, 2, 3)), images[..., 4:].mean((1, 2, 3))
        return 20 * torch.stack([left, right], 1)


@pytest.fixture
def network():
    return Sides()


@pytest.fixture
def labels():
    return torch.arange(20) % 2


@pytest.fixture
def images(labels):
    found = torch.full((20, 1, 8, 8), 0.2)
    found[labels == 0, :, :, :4] = 0.8
    found[labels == 1, :, :, 4:] = 0.8
    return found
"""
"""Fixtures that a project has whose tests stand on a page: a network that no small change fools, and images."""

WORKFLOW = (r"python -m venv \.venv", r"\.venv/bin/(uv )?pip install .*", r'echo "\w+=.*" >> "\$GITHUB_OUTPUT"')
"""Steps of a workflow that are not run."""

DEFENSES = """
schema: 1
name: frame
title: Around a fragment
matrix: {network: [n], dataset: [cifar10]}
datasets: {cifar10: {source: cifar10}, cifar100: {source: cifar100}}
networks: {n: {family: preact_resnet18}}
trainings: {adversarial: {}}
searches: {adversarial: {}}
attacks: {clean: {kind: clean}}
table: {cells: [{defense: average, attack: clean}]}
"""
"""The suite that a block of `defenses:` is put into, to be validated."""

EXITS = {"challenge ": (0, 1)}
"""Commands that may end with other codes than 0, as their page says: by how they begin."""
