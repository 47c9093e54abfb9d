"""RobustBench's model zoo: the architecture and the download are the package's own, the loading is made safe."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import torch
from torch import nn

from rstbench.compat import import_robustbench
from rstbench.data.sources import data_directory
from rstbench.errors import ModelError
from rstbench.foreign.files import sha256
from rstbench.foreign.task import Task
from rstbench.foreign.weights import check_finite, weights_only
from rstbench.foreign.wording import first_line, near, needs_code
from rstbench.spec.foreign import ZOO_DATA, ForeignSpec

FOLDER = "robustbench"
"""Below the data directory; in it DATASET/THREAT/NAME.pt, as the package lays its cache out."""


def network(spec: ForeignSpec, task: Task, data_dir: Path | None) -> tuple[nn.Module, tuple[str, ...]]:
    """The zoo's model, and notes. The data set it is listed under follows from the number of classes.

    Files are unpickled as weights only, whatever the package asks for. Raises `ModelError` for an unknown name, with
    the nearest; for images that the zoo has no models for; for weights that cannot be downloaded or hold code.
    """
    dataset = ZOO_DATA.get(task.classes)
    if dataset is None or task.channels != 3 or (dataset != "imagenet" and task.image_size != 32):
        raise ModelError(
            f"RobustBench has models for CIFAR-10, CIFAR-100 and ImageNet, none for {task.classes} classes and "
            f"{task.channels} x {task.image_size} x {task.image_size} images"
        )
    robustbench = import_robustbench()
    known = _models(dataset, str(spec.threat))
    if spec.name not in known:
        raise ModelError(
            f"RobustBench has no {dataset} model {spec.name!r} for {spec.threat}" + near(spec.name, list(known))
        )
    folder = data_directory(data_dir) / FOLDER
    files = _files(folder / dataset / str(spec.threat), spec.name, known[spec.name].get("gdrive_id"))
    try:
        with weights_only(), contextlib.redirect_stdout(io.StringIO()):
            module: nn.Module = robustbench.utils.load_model(
                model_name=spec.name, model_dir=folder, dataset=dataset, threat_model=spec.threat
            )
    except Exception as error:  # the network, the disk, or what was in the file
        raise ModelError(_reason(spec, files, error)) from error
    check_finite(module, f"RobustBench's {spec.name}")
    return module, tuple(f"weights {path.name} SHA-256 {sha256(path)}" for path in files if path.is_file())


def _models(dataset: str, threat: str) -> dict[str, dict[str, object]]:
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    lists = model_dicts[BenchmarkDataset(dataset)]
    return dict(lists.get(ThreatModel(threat), {}))


def _files(folder: Path, name: str, drive: object) -> list[Path]:
    if isinstance(drive, list):  # ensembles: one file for each member
        return [folder / f"{name}.pt_m{i}.pt" for i in range(len(drive))]
    return [folder / f"{name}.pt"] if drive else []  # none: timm or torchvision fetches them


def _reason(spec: ForeignSpec, files: list[Path], error: Exception) -> str:
    if not files:
        return (
            f"the weights of RobustBench's {spec.name} could not be loaded ({first_line(error)}). The package has them "
            f"fetched into torch's hub cache, {torch.hub.get_dir()}, which takes a network once"
        )
    absent = [path for path in files if not path.is_file()]
    if "Weights only load failed" in str(error) and not absent:
        return needs_code(", ".join(map(str, files)))
    if absent:
        return (
            f"the weights of RobustBench's {spec.name} are not here and could not be downloaded "
            f"({first_line(error)}). Fetch them where there is a network and put them at {', '.join(map(str, absent))}"
        )
    return f"{', '.join(map(str, files))}: does not load as RobustBench's {spec.name} ({first_line(error)})"
