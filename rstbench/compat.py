"""The few lines that make advertorch 0.2.3 and robustbench 1.1.1 import beside today's torch.

Importing this module changes nothing. Each function lends the library what it misses for the time of its import
and takes it back, so no other code sees a patched torch or a module under a false name. Calling one again is cheap.
"""

from __future__ import annotations

import importlib
import importlib.resources
import importlib.util
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


def import_advertorch() -> ModuleType:
    """Return `advertorch`; its attacks are in `.attacks`.

    Its FAB attack imports `torch.autograd.gradcheck.zero_gradients`, which torch removed in version 1.9.
    """
    if "advertorch" not in sys.modules:
        gradcheck = importlib.import_module("torch.autograd.gradcheck")
        with _quiet(), _lent_attribute(gradcheck, "zero_gradients", _zero_gradients):
            importlib.import_module("advertorch")
    return importlib.import_module("advertorch")


def import_autoattack() -> ModuleType:
    """Return AutoAttack's package, which the registry carries as `pyautoattack`; the class is `.AutoAttack`."""
    return importlib.import_module("pyautoattack")


def import_robustbench() -> ModuleType:
    """Return `robustbench` with its parts `.eval` and `.utils` imported.

    It asks for AutoAttack under the name and with the arguments of its repository, `autoattack`, although it depends
    on `pyautoattack`, which renamed some; and for `pkg_resources`, which newer releases of setuptools no longer have.
    """
    if "robustbench" not in sys.modules:
        with _quiet(), ExitStack() as lent:
            if _absent("autoattack"):
                lent.enter_context(_lent_module("autoattack", _repository_autoattack()))
                lent.enter_context(_lent_module("autoattack.state", importlib.import_module("pyautoattack.state")))
            if _absent("pkg_resources"):
                lent.enter_context(_lent_module("pkg_resources", _resources()))
            importlib.import_module("robustbench")
    return importlib.import_module("robustbench")


def _absent(name: str) -> bool:
    return name not in sys.modules and importlib.util.find_spec(name) is None


def _zero_gradients(tensor: Tensor) -> None:
    if tensor.grad is not None:
        tensor.grad.detach_()
        tensor.grad.zero_()


def _repository_autoattack() -> ModuleType:
    stand_in = ModuleType("autoattack")
    vars(stand_in)["AutoAttack"] = _RepositoryAutoAttack
    return stand_in


class _RepositoryAutoAttack:
    """AutoAttack as `robustbench.benchmark` calls it: `log_path`, `bs`, and images alone as the answer."""

    def __init__(self, model: Callable[[Tensor], Tensor], log_path: str | None = None, **arguments: Any) -> None:
        self.attack = import_autoattack().AutoAttack(model, **arguments)
        self.log_path = log_path

    def run_standard_evaluation(
        self, images: Tensor, labels: Tensor, bs: int = 250, state_path: Path | None = None
    ) -> Tensor:
        log = nullcontext() if self.log_path is None else _logged_to(self.log_path, self.attack.logger)
        with log, _traced_as_before():
            adversarial, _ = self.attack.run_standard_evaluation(images, labels, batch_size=bs, state_path=state_path)
        return adversarial  # type: ignore[no-any-return]


@contextmanager
def _traced_as_before() -> Iterator[None]:
    """The package's check for dynamic defenses ends whatever traces the process, such as a debugger; put back here."""
    before = sys.gettrace()
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def _logged_to(path: str, logger: logging.Logger) -> Iterator[None]:
    handler = logging.FileHandler(path)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


def _resources() -> ModuleType:
    """Stand-in for `pkg_resources` with the one function that robustbench calls."""

    def resource_filename(package_or_module: str, resource: str) -> str:
        module = importlib.import_module(package_or_module)
        package = module.__name__ if hasattr(module, "__path__") else module.__package__
        return str(importlib.resources.files(package or module.__name__).joinpath(resource))

    stand_in = ModuleType("pkg_resources")
    vars(stand_in)["resource_filename"] = resource_filename
    return stand_in


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the deprecation warnings of libraries that are no longer maintained; nobody here can act on them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _lent_attribute(module: ModuleType, name: str, value: object) -> Iterator[None]:
    if hasattr(module, name):
        yield
        return
    setattr(module, name, value)
    try:
        yield
    finally:
        delattr(module, name)


@contextmanager
def _lent_module(name: str, module: ModuleType) -> Iterator[None]:
    sys.modules[name] = module
    try:
        yield
    finally:
        sys.modules.pop(name, None)
