"""The table component: DataTables with its extensions, as the package itables ships them. Copied, never fetched.

itables has them in one file that is an ECMAScript module. Browsers load no module from file://, so its one `export`
becomes a property of the window; nothing else in it is changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from rstbench.errors import RstbenchError

GLOBAL = "rstbenchTables"
"""Property of the window: an object with what the module exports, by its public names."""

_EXPORT = re.compile(r"\bexport\s*\{([^{}]*)\}\s*;?")
_NAME = re.compile(r"[A-Za-z_$][\w$]*")


class ComponentError(RstbenchError):
    """The table component is not installed, or not as this version knows it."""


def component() -> Mapping[str, str]:
    """Name of a file -> its text: script, style sheet and licence. Raises `ComponentError`."""
    try:
        package = metadata.distribution("itables")
    except metadata.PackageNotFoundError:
        raise ComponentError('pages need the package itables; install "rstbench[page]"') from None
    try:
        script, style = (_text(package, f"itables/html/dt_bundle.{kind}") for kind in ("js", "css"))
    except OSError as error:
        raise ComponentError(f"itables {package.version} lacks a file ({error}); reinstall it") from error
    return {
        "tables.js": as_script(script, package.version),
        "tables.css": style,
        "tables.LICENSE.txt": _licence(package),
    }


def as_script(module: str, version: str) -> str:
    """A module's text as a script that any page may load, also from file://. Raises `ComponentError`."""
    exports = list(_EXPORT.finditer(module))
    pairs = [each.split() for each in exports[0][1].split(",")] if len(exports) == 1 else []
    if not pairs or any(len(p) != 3 or p[1] != "as" or not _NAME.fullmatch(p[0]) for p in pairs):
        raise ComponentError(f"itables {version} has another form than this version of rstbench knows; try another")
    names = ", ".join(f"{public}: {local}" for local, _, public in pairs)
    (export,) = exports
    body = f"{module[: export.start()]}window.{GLOBAL} = {{ {names} }};{module[export.end() :]}"
    return f'(function () {{ "use strict";\n{body}\n}})();\n'


def _text(package: metadata.Distribution, name: str) -> str:
    return Path(str(package.locate_file(name))).read_text(encoding="utf-8")


def _licence(package: metadata.Distribution) -> str:
    """The licence of itables (MIT); those of DataTables (MIT) and jQuery (MIT) stand in the script itself."""
    text = package.read_text("licenses/LICENSE") or "MIT License"
    return (
        f"tables.js and tables.css: from itables {package.version}; parts of others are named in tables.js.\n\n{text}"
    )
