"""The command `challenge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rstbench.cli.shared import DataOption, DeviceOption, PluginOption, StoreOption, console, register


def challenge(
    entry: Annotated[
        str, typer.Argument(metavar="CSV#ENTRY", help="A leaderboard's file, and the name in its column `entry`.")
    ],
    images: Annotated[
        Path,
        typer.Argument(
            metavar="ADV.npz", help="`index` (test indices) and `images` (float32 in [0, 1] or uint8; NCHW or NHWC)."
        ),
    ],
    store: StoreOption = None,
    data_dir: DataOption = None,
    by: Annotated[str, typer.Option(metavar="NAME", help="Who is credited.")] = "",
    accept: Annotated[
        bool, typer.Option("--accept", help="Keep the images in the store, and lower the entry; default: only tell.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="With --accept: the lowered files; default: in place.")
    ] = None,
    device: DeviceOption = None,
    plugin: PluginOption = None,
) -> None:
    """Check adversarial images of anybody's against an entry of a leaderboard; exit code 1 if none falls further."""
    from rstbench.session_challenge import Handing
    from rstbench.session_challenge import challenge as check
    from rstbench.store import default_root

    register(plugin)
    handing = Handing(entry, images, by, accept, out)
    raise typer.Exit(check(handing, store or default_root(), data_dir, device, console()))
