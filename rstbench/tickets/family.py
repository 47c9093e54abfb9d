"""One search for a nested family of tickets: every ratio's mask is cut from the same scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rstbench.spec.base import ratio_text
from rstbench.spec.training import SearchSpec
from rstbench.tickets.search import Scores


class Family(Scores):
    """Scores that are searched for all ratios of `spec.family` at once: a `training.FamilySubject`.

    Each step draws one of the ratios, uniformly, and trains the ticket of that ratio; of two ratios the mask of the
    smaller one is part of the other's. Running statistics of batch norm that follow a mixture of ratios fit none of
    them, so `training.family` gathers them anew for each ratio, and `keep` holds what it gathered.

    Source: ours, after slimmable networks (Yu et al. 2019: one set of parameters, several sizes, batch-norm statistics
    of each size's own; they train all sizes in every step, here one of them is drawn).
    """

    def __init__(self, network: nn.Module, pattern: str, spec: SearchSpec, seed: int) -> None:
        super().__init__(network, spec.family[0], pattern, spec, seed)
        self.ratios = spec.family
        self._tickets: dict[float, dict[str, Tensor]] = {}

    def draw(self, noise: torch.Generator) -> None:
        """Choose the ratio of one step, from the step's own generator."""
        self.choose(self.ratios[int(torch.randint(len(self.ratios), (), generator=noise))])

    def keep(self) -> None:
        """Hold the ticket of the present ratio, with the network's present buffers, for `snapshot`."""
        self.refresh()
        self._tickets[self.remaining_ratio] = super().snapshot()

    def snapshot(self) -> dict[str, Tensor]:
        """What `keep` held last for each ratio: as of a single ticket, each name behind `<ratio text>/`."""
        return {
            f"{ratio_text(ratio)}/{name}": value
            for ratio, ticket in self._tickets.items()
            for name, value in ticket.items()
        }


def search_subject(
    network: nn.Module, remaining_ratio: float | None, pattern: str, spec: SearchSpec, seed: int
) -> Scores:
    """What a search optimises: scores for one ratio, or for the family of ratios that the spec names."""
    if spec.family:
        return Family(network, pattern, spec, seed)
    if remaining_ratio is None:
        raise ValueError("a search without a family needs a remaining ratio")
    return Scores(network, remaining_ratio, pattern, spec, seed)
