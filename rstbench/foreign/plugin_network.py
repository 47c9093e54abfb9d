"""A network that a plug-in registered, built and, if the suite names weights, filled."""

from __future__ import annotations

from torch import nn

from rstbench.errors import ModelError
from rstbench.foreign.files import WeightFile
from rstbench.foreign.plugins import chosen
from rstbench.foreign.task import Task
from rstbench.foreign.weights import check_finite, fill, read_state
from rstbench.foreign.wording import first_line
from rstbench.spec.foreign import ForeignSpec


def network(spec: ForeignSpec, task: Task, file: WeightFile | None) -> tuple[nn.Module, tuple[str, ...]]:
    """The network, and notes. Raises `ModelError` if there is none of the name, or it fails, or is no module."""
    plugin = chosen(spec.name)
    build = plugin.load()
    where = f"plug-in {plugin.origin}"
    try:
        module = build(task, **spec.arguments)
    except Exception as error:  # code of others may fail in any way
        raise ModelError(f"{where}: fails to build its network: {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"{where}: returned a {type(module).__name__}, not a torch.nn.Module")
    if file is not None:
        fill(module, read_state(file.data, file.suffix, file.where), file.where, task.classes)
    else:
        check_finite(module, where)
    return module, (where,)
