"""Networks that other packages register, by entry point or by `--plugin`. No torch until one is loaded.

A network of a plug-in is a callable `build(task, **arguments) -> torch.nn.Module`: `task` is a
`rstbench.foreign.task.Task` (classes, channels, image_size, and the data set's mean and std), `arguments` are those
of the suite. The module takes float images (N, C, H, W) in [0, 1] and returns logits (N, classes); it normalises
inside. It is registered in one of two ways, neither of which a suite file can cause:

* An installed package names it in the entry point group `rstbench.networks`::

      [project.entry-points."rstbench.networks"]
      my_network = "my_package.networks:build_mine"

  The package is imported only when a suite uses the network.
* A module named by `--plugin my_module` has a mapping `RSTBENCH_NETWORKS = {"my_network": build_mine}`. It is imported
  at once. Its networks go before those of the same name from entry points.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from rstbench.errors import ModelError
from rstbench.foreign.wording import first_line, near

GROUP = "rstbench.networks"
ATTRIBUTE = "RSTBENCH_NETWORKS"

Build = Callable[..., Any]


@dataclass(frozen=True)
class Plugin:
    """A registered network. origin: where it comes from, for people; module: where its code is."""

    name: str
    origin: str
    module: str
    distribution: str | None = None
    version: str | None = None
    _build: Build | None = field(default=None, repr=False)
    _entry: EntryPoint | None = field(default=None, repr=False)

    def load(self) -> Build:
        """The callable that builds the network. Imports its package; raises `ModelError` if that fails."""
        if self._build is not None:
            return self._build
        build = _imported(lambda: self._entry.load() if self._entry else None, f"plug-in {self.origin}")
        if not callable(build):
            raise ModelError(f"plug-in {self.origin}: names {build!r:.80}, which is not callable")
        return build  # type: ignore[no-any-return]


_registered: dict[str, Plugin] = {}


def register_modules(names: Sequence[str]) -> None:
    """Import the modules of `--plugin` and register their networks; again is cheap and changes nothing.

    Raises `ModelError` for a module that cannot be imported or has no `RSTBENCH_NETWORKS`, or where two of them
    register the same name.
    """
    for name in names:
        where = f"plug-in module {name!r}"
        if not all(part.isidentifier() for part in name.split(".")):
            raise ModelError(
                f"--plugin {name!r}: a module is named as for import, e.g. my_package.networks, not as a file"
            )
        module = _imported(partial(importlib.import_module, name), where)
        networks = getattr(module, ATTRIBUTE, None)
        if not isinstance(networks, Mapping):
            raise ModelError(f"{where}: has no mapping {ATTRIBUTE} of names to callables that build networks")
        for network, build in networks.items():
            if not isinstance(network, str) or not callable(build):
                raise ModelError(f"{where}: {ATTRIBUTE}[{network!r:.60}] is not callable, or its name is not text")
            other = _registered.get(network)
            if other is not None and other.module != name:
                raise ModelError(f"{where}: network {network!r} is registered by module {other.module!r} already")
            _registered[network] = Plugin(network, f"{network!r} of module {name!r}", name, _build=build)


def available() -> dict[str, Plugin]:
    """Registered networks by name, sorted; none of the installed packages is imported.

    Raises `ModelError` where two packages register the same name and no `--plugin` decides.
    """
    found: dict[str, Plugin] = {}
    for entry in entry_points(group=GROUP):
        package = entry.dist.name if entry.dist else None
        version = entry.dist.version if entry.dist else None
        plugin = Plugin(
            entry.name, f"{entry.name!r} of package {package} {version}", entry.module, package, version, _entry=entry
        )
        other = found.setdefault(entry.name, plugin)
        if (other.distribution, other.module) != (package, entry.module) and entry.name not in _registered:
            raise ModelError(f"network {entry.name!r} is registered by both {other.distribution} and {package}")
    return dict(sorted((found | _registered).items()))


def chosen(name: str) -> Plugin:
    """The registered network of this name. Raises `ModelError` with the nearest one if there is none."""
    known = available()
    if name not in known:
        have = f"registered are {', '.join(known)}" if known else "none is registered"
        raise ModelError(
            f"no plug-in registers a network {name!r}; {have}. Install its package (entry point group {GROUP}) or name "
            "its module with --plugin" + near(name, known)
        )
    return known[name]


def source_digest(module: str) -> str | None:
    """SHA-256 over the source of a module's package (all .py files), or of the module where it has no package.

    Nothing is imported. None where there is no source: built-in, compiled or not found.
    """
    loaded = sys.modules.get(module.partition(".")[0])
    spec = getattr(loaded, "__spec__", None) or _found(module.partition(".")[0])
    if spec is None:
        return None
    if spec.submodule_search_locations is not None:
        roots = [Path(location) for location in spec.submodule_search_locations]
        files = sorted((file.relative_to(root).as_posix(), file) for root in roots for file in root.rglob("*.py"))
    else:
        files = [(Path(spec.origin).name, Path(spec.origin))] if spec.origin and spec.origin.endswith(".py") else []
    if not files:
        return None
    whole = hashlib.sha256()
    for name, file in files:
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        whole.update(f"{name}\0{content}\n".encode())
    return whole.hexdigest()


def _found(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def _imported(importing: Callable[[], Any], where: str) -> Any:
    try:
        return importing()
    except (Exception, SystemExit) as error:  # code of others may fail in any way, and must not end the program
        path = " (is its folder on PYTHONPATH?)" if isinstance(error, ModuleNotFoundError) else ""
        raise ModelError(f"{where}: cannot be imported: {type(error).__name__}: {first_line(error)}{path}") from error
