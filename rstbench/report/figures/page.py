"""A whole figure: panels in a grid, one legend, and beneath them what the reader must know of the run."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

from rstbench.plan import Plan
from rstbench.report.figures.bars import draw_bars
from rstbench.report.figures.distribution import draw_distribution
from rstbench.report.figures.heatmap import draw_heatmap
from rstbench.report.figures.lines import draw_lines
from rstbench.report.figures.points import Shown
from rstbench.report.figures.scatter import draw_scatter
from rstbench.report.figures.style import SMALL, TINY, dressed

_DRAW = {
    "lines": draw_lines,
    "bars": draw_bars,
    "distribution": draw_distribution,
    "heatmap": draw_heatmap,
    "scatter": draw_scatter,
}
_WIDTH = {"lines": 3.9, "bars": 4.2, "distribution": 4.0, "heatmap": 4.4, "scatter": 4.6}
_HEIGHT = {"lines": 3.4, "bars": 3.2, "distribution": 3.2, "heatmap": 3.9, "scatter": 3.6}
_INSET_HEIGHT = 4.2
_CHARACTERS_PER_INCH = 19
_LEGEND_LETTERS = 52
"""Of two labels beside each other beneath a panel."""
_LINE = 0.145
"""Height of a line of notes, in inches."""


def page(plan: Plan, panels: Sequence[Shown], figure_note: str, kinds: Sequence[str]) -> dict[str, bytes]:
    """The figure in each of the file formats `kinds` ("png", "svg"). Equal results leave equal bytes."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    run = plan.suite.run
    assert run.figure is not None  # `shown` refuses a suite without one
    columns = min(run.figure.columns, len(panels))
    rows = -(-len(panels) // columns)
    width = columns * max(_WIDTH[shown.panel.kind] for shown in panels) + (0.9 if columns == 1 else 0.0)
    height = rows * max(_INSET_HEIGHT if s.panel.inset else _HEIGHT[s.panel.kind] for s in panels)
    notes = _wrapped(figure_note, width, _CHARACTERS_PER_INCH)
    title = textwrap.fill(_title(plan), int(13 * width))
    shared = _same_legend(panels)
    legend_rows = _legend_rows(panels[0], width) if shared else 0
    strip = _LINE * (len(notes) + 1) + 0.24 * legend_rows
    head = 0.26 * (title.count("\n") + 1)
    with matplotlib.rc_context({"svg.hashsalt": "rstbench", "svg.fonttype": "none", "hatch.linewidth": 0.7}):
        figure: Any = Figure(figsize=(width, head + height + strip), layout="constrained")
        FigureCanvasAgg(figure)
        upper, lower = figure.subfigures(2, 1, height_ratios=[head + height, strip])
        upper.suptitle(title, fontsize=10.5)
        grid = upper.subplots(rows, columns, squeeze=False).flatten()
        for axes, shown in zip(grid, panels, strict=False):
            reason = shown.refusal()
            if reason is None:
                _DRAW[shown.panel.kind](axes, shown)
                if not shared and shown.panel.kind != "heatmap":
                    _own_legend(axes, _labels(shown))
            else:
                dressed(axes, shown)
                axes.text(0.5, 0.5, textwrap.fill(f"not drawn: {reason}", 30), ha="center", va="center", fontsize=SMALL)
                axes.set_xticks([])
                axes.set_yticks([])
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        if shared:
            drawn = [axes for axes, shown in zip(grid, panels, strict=False) if shown.refusal() is None]
            handles, labels = _handles(drawn, _labels(panels[0]))
            lower.legend(
                handles, labels, loc="upper center", ncols=-(-len(labels) // legend_rows), fontsize=SMALL, frameon=False
            )
        lower.text(0.5, 0.02, "\n".join(notes), ha="center", va="bottom", fontsize=TINY, color="#333333")
        files = {}
        for kind in kinds:
            image = io.BytesIO()
            figure.savefig(image, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {})
            files[kind] = image.getvalue()
    return files


def _title(plan: Plan) -> str:
    run = plan.suite.run
    number = run.figure.paper if run.figure is not None else None
    start = f"Figure {number}. " if number is not None else ""
    return f"{start}{run.title} (profile {plan.suite.profile})"


def _wrapped(text: str, width: float, per_inch: int) -> list[str]:
    return [line for part in text.split("\n") for line in textwrap.wrap(part, int(per_inch * width))]


def _labels(shown: Shown) -> tuple[str, ...]:
    return tuple(dict.fromkeys(line.label for line in (*shown.lines, *shown.dashed)))


def _same_legend(panels: Sequence[Shown]) -> bool:
    if any(shown.panel.kind == "heatmap" for shown in panels):
        return False
    kinds = {shown.panel.kind for shown in panels}
    return len(kinds) == 1 and len({_labels(shown) for shown in panels}) == 1


def _legend_rows(shown: Shown, width: float) -> int:
    inches = sum(0.55 + 0.062 * len(label) for label in _labels(shown))
    return max(1, -(-int(10 * inches) // int(10 * width)))


def _handles(drawn: Sequence[Any], order: Sequence[str]) -> tuple[list[Any], list[str]]:
    found: dict[str, Any] = {}
    for axes in drawn:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    labels = [label for label in order if label in found]
    return [found[label] for label in labels], labels


def _own_legend(axes: Any, order: Sequence[str]) -> None:
    handles, labels = _handles([axes], order)
    if labels:
        columns = 2 if sum(sorted(map(len, labels))[-2:]) <= _LEGEND_LETTERS else 1
        axes.legend(
            handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.19), ncols=columns, fontsize=TINY,
            frameon=False, columnspacing=0.9, handlelength=2.0, handletextpad=0.5,
        )  # fmt: skip
