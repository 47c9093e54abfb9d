"""The deterministic ensemble: one network that answers with the average of several."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from rstbench.defenses.views import EnsembleView


class Averaged(nn.Module):
    """Images (N, C, H, W) to the members' average (N, classes), all members weighing the same.

    average: "logits", or "probabilities", whose logarithm stands in for logits. The class predicted is that of the
    largest average, so a tie between votes is settled by how sure the members are.
    """

    def __init__(self, members: Sequence[nn.Module], average: str) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._view = EnsembleView(list(members), [1.0 / len(members)] * len(members), average)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the average."""
        return self._view.logits(images)
