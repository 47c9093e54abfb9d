from __future__ import annotations

import pytest
import torch

from rstbench.attacks.margin import margin


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_is_the_best_other_class_minus_the_label(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(200, classes, generator=generator)
    labels = torch.randint(classes, (200,), generator=generator)
    expected = [
        max(v for j, v in enumerate(row) if j != y) - row[y]
        for row, y in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    found = margin(logits, labels)
    assert found.tolist() == pytest.approx(expected)
    assert torch.equal(found > 0, logits.argmax(1) != labels)


def test_gradient_is_that_of_one_rival_even_where_rivals_tie() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [0.0, 5.0, 5.0]], requires_grad=True)
    margin(logits, torch.tensor([0, 0])).sum().backward()
    assert logits.grad is not None and logits.grad[0].tolist() == [-1.0, 1.0, 0.0]
    assert logits.grad[1, 0] == -1 and sorted(logits.grad[1, 1:].tolist()) == [0.0, 1.0]
    assert logits.grad.isfinite().all()
