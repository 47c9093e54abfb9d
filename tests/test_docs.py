"""README and docs: every fenced code block is run, every page is found, and the site builds without a warning."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from torch import nn

from rstbench.cli import app
from tests.commands import ROOT
from tests.docs_blocks import shell, substitutes
from tests.docs_blocks.pages import PAGES, Block, blocks, inline
from tests.docs_blocks.runner import Reader

FOLDERS = ("suites", "leaderboards", "docs")
"""What of the clone a reader's commands read, and may change."""
PATHS = re.compile(r"(?:rstbench|tests|suites|docs|leaderboards)/[\w./-]*[\w/]")


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a clone in which somebody has run README's first command, on a smaller suite."""
    folder = tmp_path_factory.mktemp("clone")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name)
    (folder / "data").mkdir()
    yaml = YAML()
    suite = yaml.load((ROOT / "suites" / "table3_r2s.yaml").read_text(encoding="utf-8"))
    _merge(suite["profiles"]["smoke"], substitutes.TABLE3)
    for name in substitutes.SHIPPED:
        with (folder / "suites" / f"{name}.yaml").open("w", encoding="utf-8") as file:
            yaml.dump({**suite, "name": name}, file)
    shell.run("rstbench run suites/table3_r2s.yaml --profile smoke", folder, {})
    _models(folder)
    return folder


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RSTBENCH_STORE", "RSTBENCH_DATA"):
        monkeypatch.delenv(name, raising=False)


def _merge(into: Any, changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _models(folder: Path) -> None:
    """Files that a reader has: a state dict for a narrow network of ours, and a module that registers one."""
    from rstbench.networks import build
    from rstbench.networks.init import initialise
    from rstbench.networks.spec import ModelSpec

    spec = ModelSpec(
        family="preact_resnet18", width=0.06, classes=10, channels=1, image_size=8, mean=(0.5,), std=(0.5,),
        bn_affine=True, classifier_bias=True,
    )  # fmt: skip
    network = build(spec)
    initialise(network, "kaiming_normal", 0)
    torch.save(network.state_dict(), folder / "data" / "mine.pt")
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").touch()
    (folder / "my_package" / "networks.py").write_text(
        "from torch import nn\n\n\n"
        "def build(task):\n"
        "    pixels = task.channels * task.image_size**2\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, task.classes))\n\n\n"
        'RSTBENCH_NETWORKS = {"my_network": build}\n',
        encoding="utf-8",
    )


def _names() -> dict[str, Any]:
    """What pages take for granted that a reader has: two networks, images and labels."""
    network, other = (_linear(seed) for seed in (0, 1))
    # So near to the boundaries that each attack succeeds at once: what is tested is that pages say what can be run.
    images = 0.45 + 0.1 * torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    return {"network": network, "other_network": other, "images": images, "labels": network(images).argmax(1)}


def _linear(seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(3 * 8 * 8, 10)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
        layer.bias.copy_(-layer.weight.sum(1) / 2)
    return nn.Sequential(nn.Flatten(), layer)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_block_of_a_page(page: Path, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(clone)
    monkeypatch.setenv("PYTHONPATH", f"{clone}:{ROOT}")
    reader = Reader(clone, _names())
    for block in blocks(page):
        reader.follow(block)


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        (Block("sh", "rstbench run suites/table3_r2s.yaml --profil smoke", "p:1"), "ended with 2"),
        (
            Block("sh", "rstbench run suites/table4_r2s_attacks.yaml --profile desk --only dataset=mnist", "p:1"),
            "mnist",
        ),
        (Block("sh", "tox -e nothing", "p:1"), "no environment of tox"),
        (Block("sh", "RSTBENCH_UNKNOWN=1 tox -e peers", "p:1"), "RSTBENCH_UNKNOWN"),
        (Block("sh", "pytest tests/nowhere.py", "p:1"), "tests/nowhere.py is not there"),
        (Block("sh", "make all", "p:1"), "nothing here can run"),
        (Block("sh", "# nothing", "p:1"), "no command"),
        (Block("python", "import rstbench\nrstbench.evalute", "p:1"), "evalute"),
        (Block("yaml", "defenses: {average: {kind: ensemble, of: nothing}}", "p:1"), "nothing"),
        (Block("text", "a line that nobody printed", "p:1"), "not printed"),
        (Block("", "a block without a language", "p:1"), "nobody knows"),
    ],
)
def test_a_block_that_does_not_hold_is_found(block: Block, fault: str, clone: Path) -> None:
    with pytest.raises(AssertionError, match=fault) as found:
        Reader(clone, {}).follow(block)
    assert str(found.value).startswith("p:1: ")


def test_nothing_is_substituted_for_nothing() -> None:
    told = [block for page in PAGES for block in blocks(page)]
    lines = [line for block in told if block.language == "sh" for line in shell.commands(block.text)]
    for pattern in substitutes.NOT_RUN:
        assert any(re.fullmatch(rf"(\w+=\S+ )*{pattern}", line) for line in lines), f"no page says {pattern}"
    for start in (*substitutes.CHANGED, *substitutes.REFUSED, *substitutes.EXITS):
        assert any(f"rstbench {start}" in line for line in lines), f"no page says rstbench {start}"
    for name in substitutes.SUITES:
        assert any(f"name: {name}\n" in block.text for block in told if block.language == "yaml")


def test_commands_and_paths_that_pages_name() -> None:
    pages = sys.modules.get("command_pages") or _command_pages()
    known = [name for name, _ in pages.commands(app, "rstbench")]
    for page in PAGES:
        for text in inline(page):
            if text.startswith("rstbench ") and not text.endswith("..."):
                assert any(text == name or text.startswith(f"{name} ") for name in known), (page, text)
            for path in PATHS.findall(text) if "<" not in text and "*" not in text else []:
                assert (ROOT / path).exists(), (page, text)


def _command_pages() -> Any:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import command_pages
    finally:
        sys.path.remove(str(ROOT / "docs"))
    return command_pages


def test_links_of_pages_outside_the_site() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "leaderboards" / "README.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).is_file(), f"{page.name}: {target}"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-d",
        tmp_path / "trees",
        "docs",
        tmp_path / "site",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "site" / "suite-reference.html").read_text(encoding="utf-8")
    assert "layer_power" in reference and 'href="#innerattack"' in reference
    commands = (tmp_path / "site" / "commands.html").read_text(encoding="utf-8")
    assert 'id="rstbench-ticket-inspect"' in commands and "--time-limit" in commands
    for path in (tmp_path / "site").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r'<(?:script|link|img)[^>]+(?:src|href)="(?:https?:)?//', text), (
            f"{path.name} needs a network"
        )
