from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from textwrap import dedent

import pytest
import torch

from rstbench.errors import ModelError
from rstbench.foreign import plugins
from rstbench.foreign.identity import identify
from rstbench.foreign.plugins import available, chosen, register_modules, source_digest
from tests.attacks.networks import images
from tests.foreign.models import MEAN, loaded, saved, spec

NETWORK = dedent("""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, task, width=4):
            super().__init__()
            self.register_buffer("mean", torch.tensor(task.mean).view(1, -1, 1, 1))
            self.layers = nn.Sequential(
                nn.Conv2d(task.channels, width, 3), nn.Dropout(0.9), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                nn.Linear(width, task.classes))

        def forward(self, images):
            return self.layers(images - self.mean)

    def build(task, **arguments):
        return Net(task, **arguments)
""")
REGISTERED = NETWORK + '\nRSTBENCH_NETWORKS = {"mine": build}\n'


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty registry; modules and installed packages of the test's own folder."""
    monkeypatch.setattr(plugins, "_registered", {})
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def written(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.py").write_text(text)
    return name


def installed(folder: Path, package: str, entries: dict[str, str], number: str = "1.2") -> None:
    """A distribution as an installer leaves it: metadata and entry points."""
    info = folder / f"{package.replace('-', '_')}-{number}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {number}\n")
    lines = "\n".join(f"{name} = {target}" for name, target in entries.items())
    (info / "entry_points.txt").write_text(f"[rstbench.networks]\n{lines}\n")


def test_a_module_of_the_command_line(tmp_path: Path) -> None:
    register_modules([written(tmp_path, "plug_a", REGISTERED)] * 2)
    assert list(available()) == ["mine"]
    state = torch.get_rng_state()
    found = loaded(None, source="plugin", name="mine", arguments={"width": 6})
    assert torch.equal(torch.get_rng_state(), state)
    again = loaded(None, source="plugin", name="mine", arguments={"width": 6})
    inputs = images(3, side=32)
    assert torch.equal(found.module(inputs), again.module(inputs))  # its weights are drawn from a seed
    assert found.module.layers[0].out_channels == 6 and not found.module.layers[1].training  # type: ignore[union-attr, index]
    assert found.module.mean.flatten().tolist() == pytest.approx(MEAN)  # type: ignore[union-attr, operator]
    assert found.notes == ("plug-in 'mine' of module 'plug_a'",)


def test_weights_from_a_file(tmp_path: Path) -> None:
    register_modules([written(tmp_path, "plug_b", REGISTERED)])
    source = loaded(None, source="plugin", name="mine").module
    with torch.no_grad():
        source.layers[4].bias.fill_(7.0)  # type: ignore[union-attr, index, operator]
    saved(source, tmp_path / "w.safetensors")
    found = loaded(tmp_path, source="plugin", name="mine", file="w.safetensors").module
    assert torch.equal(found(images(3, side=32)), source(images(3, side=32)))
    with pytest.raises(ModelError, match="the weights are for 10 classes, the data set has 20"):
        loaded(tmp_path, 20, source="plugin", name="mine", file="w.safetensors")


def test_an_installed_package_is_imported_only_when_it_is_used(tmp_path: Path) -> None:
    written(tmp_path, "plug_c", NETWORK)
    written(tmp_path, "plug_broken", "raise SystemExit('broken')")
    installed(tmp_path, "plug-c", {"theirs": "plug_c:build", "broken": "plug_broken:build", "no": "plug_c:absent"})
    assert {"theirs", "broken", "no"} <= available().keys()
    facts = identify(spec(source="plugin", name="theirs"), None)
    assert "plug_c" not in sys.modules and "plug_broken" not in sys.modules
    assert facts == {
        "package": "plug-c", "version": "1.2", "module": "plug_c", "source_sha256": source_digest("plug_c"),
    }  # fmt: skip
    assert loaded(None, source="plugin", name="theirs").notes == ("plug-in 'theirs' of package plug-c 1.2",)
    assert "plug_broken" not in sys.modules
    with pytest.raises(
        ModelError, match=r"plug-in 'broken' of package plug-c 1\.2: cannot be imported: SystemExit: brok"
    ):
        loaded(None, source="plugin", name="broken")
    with pytest.raises(ModelError, match=r"'no' of package .*: AttributeError"):
        loaded(None, source="plugin", name="no")


def test_the_command_line_goes_before_installed_packages_and_two_of_a_kind_are_refused(tmp_path: Path) -> None:
    written(tmp_path, "plug_d", NETWORK)
    installed(tmp_path, "plug-d", {"mine": "plug_d:build"})
    installed(tmp_path, "plug-e", {"mine": "plug_e:build"})
    with pytest.raises(ModelError, match="'mine' is registered by both plug-"):
        available()
    register_modules([written(tmp_path, "plug_f", REGISTERED)])
    assert chosen("mine").module == "plug_f"
    with pytest.raises(ModelError, match="module 'plug_g': network 'mine' is registered by module 'plug_f' already"):
        register_modules([written(tmp_path, "plug_g", REGISTERED)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_like_it", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("def", "cannot be imported: SyntaxError"),
        ("", "has no mapping RSTBENCH_NETWORKS"),
        ("RSTBENCH_NETWORKS = ['mine']", "has no mapping RSTBENCH_NETWORKS"),
        ("RSTBENCH_NETWORKS = {'mine': 3}", r"RSTBENCH_NETWORKS\['mine'\] is not callable"),
    ],
)
def test_modules_that_are_no_plug_ins(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ModelError, match=f"plug-in module 'plug_h': .*{message}"):
        register_modules([written(tmp_path, "plug_h", text)])
    assert available() == {}


def test_modules_that_are_not_there_or_named_as_files() -> None:
    with pytest.raises(ModelError, match=r"plug-in module 'plug_nothing': .* \(is its folder on PYTHONPATH"):
        register_modules(["plug_nothing"])
    for name in ("./mine.py", "mine-net", "", ".mine"):
        with pytest.raises(ModelError, match="a module is named as for import"):
            register_modules([name])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3", "returned a int, not a torch.nn.Module"),
        ("raise ValueError('no such depth')", "fails to build its network: ValueError: no such depth"),
        ("return nn.Sequential(nn.Flatten(), nn.Linear(3072, 7))", "answers with 7 classes, the data set has 10"),
        ("return nn.Linear(3, 10)", "fails on float32 images 2 x 3 x 32 x 32"),
        ("return nn.Flatten(0)", r"answers images .* with a tensor \[6144\]"),
        ("m = Net(task)\n    m.mean.fill_(float('nan'))\n    return m", "mean is not finite"),
    ],
)
def test_networks_that_do_not_do(tmp_path: Path, body: str, message: str) -> None:
    text = NETWORK + f"\ndef bad(task):\n    {body}\n\nRSTBENCH_NETWORKS = {{'mine': bad}}\n"
    register_modules([written(tmp_path, "plug_i", text)])
    with pytest.raises(ModelError, match=message):
        loaded(None, source="plugin", name="mine")


def test_arguments_it_does_not_take_and_names_there_are_not(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no plug-in registers a network 'mine'; none is registered\. Install"):
        chosen("mine")
    register_modules([written(tmp_path, "plug_j", REGISTERED)])
    with pytest.raises(ModelError, match=r"TypeError: .*unexpected keyword argument 'depth'"):
        loaded(None, source="plugin", name="mine", arguments={"depth": 3})
    with pytest.raises(ModelError, match=r"registered are mine.* did you mean 'mine'"):
        loaded(None, source="plugin", name="mines")


def test_an_edited_plug_in_is_another_one(tmp_path: Path) -> None:
    name = written(tmp_path, "plug_k", REGISTERED)
    register_modules([name])
    planned = identify(spec(source="plugin", name="mine"), None)
    assert planned["module"] == "plug_k" and "package" not in planned
    loaded(None, planned=planned, source="plugin", name="mine")
    written(tmp_path, "plug_k", REGISTERED + "# edited\n")
    assert identify(spec(source="plugin", name="mine"), None) != planned
    with pytest.raises(ModelError, match=r"no longer what was planned with.*source_sha256 changed"):
        loaded(None, planned=planned, source="plugin", name="mine")


def test_the_digest_of_a_package_covers_all_its_source(tmp_path: Path) -> None:
    package = tmp_path / "plug_l" / "inner"
    package.mkdir(parents=True)
    for file in (tmp_path / "plug_l/__init__.py", package / "__init__.py", package / "net.py"):
        file.write_text("raise RuntimeError('imported')")
    first = source_digest("plug_l.inner")
    assert first == source_digest("plug_l") is not None
    (package / "net.py").write_text("other")
    assert source_digest("plug_l.inner") != first
    assert source_digest("plug_nothing") is None and source_digest("sys") is None


def test_identities_need_no_torch(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"weights")
    code = f"""
    import sys
    from pathlib import Path
    from rstbench.foreign.identity import identify
    from rstbench.spec.foreign import ForeignSpec
    fields = {{"kind": "model", "name": "resnet18"}}
    for rest in ({{"source": "torchvision", "file": "a.pt"}}, {{"source": "timm", "weights": "a1_in1k"}},
                 {{"source": "robustbench", "threat": "L2"}}, {{"source": "rstbench", "file": "a.pt"}}):
        print(identify(ForeignSpec(**fields, **rest), Path({str(tmp_path)!r})))
    assert not {{"torch", "torchvision", "timm", "robustbench"}} & set(sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert str(version("torchvision")) in lines[0] and hashlib.sha256(b"weights").hexdigest() in lines[0]
    assert str(version("timm")) in lines[1] and str(version("robustbench")) in lines[2]
    assert "version" not in lines[3]
