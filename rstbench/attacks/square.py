"""Square attack, L-infinity and L2, black box."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rstbench.attacks.draws import Draws, handed
from rstbench.attacks.found import Found
from rstbench.attacks.margin import margin
from rstbench.attacks.square_windows import bump_on, changed, cut, inside
from rstbench.attacks.threat import Threat
from rstbench.defenses.view import View

PUBLISHED_QUERIES = 5000
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10000 queries
_TILES = 5  # a side, of the start in L2
_SMALLEST_L2 = 3
_BLOCK = 64  # numbers are drawn for so many queries at a time
_TINY = 1e-12


def square(
    view: View,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    draws: Draws,
    queries: int = PUBLISHED_QUERIES,
    p_init: float = 0.8,
) -> Found:
    """The image of each (N, C, H, W) with the smallest margin, within `threat` and [0, 1]; and its number of queries.

    inputs: float32 in [0, 1]; labels: int64 (N,). queries: at most, for each image; all are counted: one for the
    clean image, one for the start, and one for each window tried, until the view misclassifies. An image that is
    misclassified to begin with comes back clean. p_init: share of the pixels that the first windows cover.

    Source: Andriushchenko et al. 2020, Algorithms 1 to 3, Eq. (2), and Section 3's schedule: the share of pixels
    halves at 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 of 10000 queries, and in proportion for any other
    number. Untargeted, on the margin loss. Start: vertical stripes of +-epsilon (linf), a grid of five by five bumps
    (L2). p_init and number of queries are AutoAttack's. Deviations from its package (`SquareAttack`):

    - each image has windows, signs and orientations of its own, from its own generator; there, all images of a batch
      share them, so that what becomes of one depends on how many others still stand;
    - windows reach the last row and column, which the package's rounding leaves out;
    - the schedule is the paper's, scaled to the number of queries; AutoAttack does not scale it;
    - a view that answers at random is believed, as there: the first misclassification ends an image.

    Flag: reduced_budget below 5000 queries.
    """
    flags = ("reduced_budget",) if queries < PUBLISHED_QUERIES else ()
    count = len(inputs)
    used = torch.zeros(count, dtype=torch.int64, device=inputs.device)
    result = inputs.clone()
    if count == 0:
        return Found(result, queries=used, flags=flags)
    with torch.no_grad():
        logits = view.logits(inputs)
        used += 1
        rows = (logits.argmax(1) == labels).nonzero()[:, 0]
        if threat.epsilon == 0 or queries < 2 or len(rows) == 0:
            return Found(result, queries=used, flags=flags)
        own = draws.rows(rows.cpu())
        clean, right = inputs[rows], labels[rows]
        best = _start(clean, threat, own)
        logits = view.logits(best)
        used[rows] += 1
        loss, standing = margin(logits, right), logits.argmax(1) == right
        numbers, drawing = clean.new_empty(len(rows), 0), torch.arange(len(rows), device=inputs.device)
        for number in range(queries - 2):
            still = standing.nonzero().squeeze(1)  # the one number of a query that a GPU is waited for
            if len(still) < len(rows):
                result[rows] = best
                live = (rows, clean, right, best, loss, numbers, drawing)
                rows, clean, right, best, loss, numbers, drawing = (part[still] for part in live)
                if len(rows) == 0:
                    break
            if number % _BLOCK == 0:
                own = own.rows(drawing.cpu())
                drawing = torch.arange(len(rows), device=inputs.device)
                numbers = handed(own.uniform((_BLOCK, 5 + clean.shape[1])), clean)
            tried = _tried(best, clean, numbers[:, number % _BLOCK], _share(number, queries, p_init), threat)
            logits = view.logits(tried)
            used[rows] += 1
            new, standing = margin(logits, right), logits.argmax(1) == right
            better = (new > loss) | ~standing
            best = torch.where(better.view(-1, 1, 1, 1), tried, best)
            loss = torch.where(better, new, loss)
        result[rows] = best
    return Found(result, queries=used, flags=flags)


def _share(number: int, queries: int, p_init: float) -> float:
    """Share of pixels that the window of this try covers."""
    place = int(number / queries * 10000)
    return p_init / 2.0 ** sum(place > halving for halving in _HALVINGS)


def _signs(uniform: Tensor) -> Tensor:
    return torch.where(uniform < 0.5, -1.0, 1.0)


def _start(clean: Tensor, threat: Threat, draws: Draws) -> Tensor:
    _, channels, height, width = clean.shape
    if threat.norm == "linf":
        stripes = _signs(draws.uniform((channels, 1, width))).to(clean)
        return (clean + threat.epsilon * stripes).clamp(0.0, 1.0)
    side = max(min(height, width) // _TILES, 1)
    tiles_down, tiles_across = height // side, width // side
    numbers = draws.uniform((tiles_down, tiles_across, channels + 1)).to(clean)
    upright = bump_on(clean.device, side)
    delta = torch.zeros_like(clean)
    top, left = (height - tiles_down * side) // 2, (width - tiles_across * side) // 2
    for down in range(tiles_down):
        for across in range(tiles_across):
            own = numbers[:, down, across]
            turned = _turned(upright, own[:, 0])[:, None] * _signs(own[:, 1:])[:, :, None, None]
            y, x = top + down * side, left + across * side
            delta[:, :, y : y + side, x : x + side] = turned
    return _stretched(delta, clean, threat.epsilon)


def _turned(upright: Tensor, uniform: Tensor) -> Tensor:
    """(s, s), (N,) -> (N, s, s): each as it is, or turned on its side."""
    return torch.where((uniform < 0.5)[:, None, None], upright, upright.T)


def _stretched(delta: Tensor, clean: Tensor, epsilon: float) -> Tensor:
    """The clean images moved by `delta`, brought to length epsilon, within [0, 1]."""
    length: Tensor = delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return (clean + delta / length.clamp_min(_TINY) * epsilon).clamp(0.0, 1.0)


@dataclass(frozen=True)
class _Window:
    top: Tensor
    left: Tensor


def _window(vertical: Tensor, horizontal: Tensor, side: int, height: int, width: int) -> _Window:
    top = (vertical * (height - side + 1)).long().clamp_max(height - side)
    return _Window(top, (horizontal * (width - side + 1)).long().clamp_max(width - side))


def _tried(best: Tensor, clean: Tensor, numbers: Tensor, share: float, threat: Threat) -> Tensor:
    """The next images to ask about; numbers: uniform, (N, 5 + C)."""
    height, width = clean.shape[2:]
    side = round(math.sqrt(share * height * width))
    signs = _signs(numbers[:, 5:])[:, :, None, None]
    if threat.norm == "linf":
        side = min(max(side, 1), height, width)
        window = _window(numbers[:, 0], numbers[:, 1], side, height, width)
        moved = best + 2 * threat.epsilon * signs * inside(window.top, window.left, side, height, width)
        return moved.clamp(clean - threat.epsilon, clean + threat.epsilon).clamp(0.0, 1.0)
    side = min(max(side, _SMALLEST_L2) | 1, height, width)  # odd, as in the paper
    to = _window(numbers[:, 0], numbers[:, 1], side, height, width)
    off = _window(numbers[:, 2], numbers[:, 3], side, height, width)
    delta = best - clean
    both = inside(to.top, to.left, side, height, width) | inside(off.top, off.left, side, height, width)
    unused = (threat.epsilon**2 - delta.flatten(1).square().sum(dim=1)).clamp_min(0.0).view(-1, 1, 1, 1)
    available = ((delta * both).square().sum(dim=(2, 3), keepdim=True) + unused / clean.shape[1]).sqrt()
    old = cut(delta, to.top, to.left, side)
    new = _turned(bump_on(clean.device, side), numbers[:, 4])[:, None] * signs
    new = new + old / old.square().sum(dim=(2, 3), keepdim=True).sqrt().clamp_min(_TINY)
    new = new / new.square().sum(dim=(2, 3), keepdim=True).sqrt().clamp_min(_TINY) * available
    # What the second window held pays for the first: emptied before the first is filled, where they overlap too.
    delta = delta * ~inside(off.top, off.left, side, height, width)
    return _stretched(changed(delta, new, to.top, to.left), clean, threat.epsilon)
