"""What a model from elsewhere is, beyond the words of its spec: the part of its content key. No torch."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rstbench.errors import ModelError
from rstbench.foreign.files import located, sha256
from rstbench.foreign.plugins import chosen, source_digest
from rstbench.spec.foreign import ForeignSpec

PACKAGES = {"robustbench": "robustbench", "torchvision": "torchvision", "timm": "timm"}


def identify(spec: ForeignSpec, data_dir: Path | None) -> dict[str, Any]:
    """JSON-able facts that go into the key of the model's results beside its spec.

    `file_sha256` of a weights file; `package` and `version` of the zoo that defines the architecture and, for
    published weights, says what they are (their own bytes are not at hand before they are fetched); for a plug-in,
    its distribution and version if it is installed, and `source_sha256`, which also sees an edited source.
    Raises `ModelError` for a file, package or plug-in that is not there.
    """
    facts: dict[str, Any] = {}
    if spec.file is not None:
        facts["file_sha256"] = sha256(located(spec.file, data_dir))
    if spec.source == "plugin":
        plugin = chosen(spec.name)
        facts |= {"module": plugin.module, "source_sha256": source_digest(plugin.module)}
        if plugin.distribution is not None:
            facts |= {"package": plugin.distribution, "version": plugin.version}
    elif spec.source in PACKAGES:
        package = PACKAGES[spec.source]
        try:
            facts |= {"package": package, "version": version(package)}
        except PackageNotFoundError:
            raise ModelError(
                f"models of source {spec.source} need the package {package}, which is not installed"
            ) from None
    return facts
