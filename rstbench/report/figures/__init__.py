"""Figures, drawn from the store: panels of lines, bars, distributions, transfer matrices, transfer over overlap.

`publish_figure` is the way in. `points` reads, one module for each kind of panel draws, `page` puts them together.
"""

from rstbench.report.figures.publish import Drawn, publish_figure

__all__ = ["Drawn", "publish_figure"]
