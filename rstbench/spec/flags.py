"""Reliability flags: reasons why a number may not be what it seems. Names and what they say; no logic, no torch.

A flag never changes a number. Each is a column of battery.csv, and marks the number in printed tables.
"""

from __future__ import annotations

RELIABILITY = {
    "randomised_output": "two equal queries got different answers, but the attack takes the defense for deterministic",
    "zero_gradients": "the gradient vanishes exactly on images that are still classified right; gradient attacks are "
    "blind there, and only black-box or transferred attacks say anything",
    "softmax_output": "the model returns probabilities, not logits; losses on them saturate",
    "loss_not_rising": "along the steps of the attack the loss did not rise on most images: gradients mislead",
    "constant_output": "the model's answer is the same for all images: it is broken, or a detector hides behind it",
    "few_classes": "too few classes for the attack's targets; the targets were reduced, or the loss replaced",
    "black_box_beats_white_box": "an attack without gradients found more than every attack with them: gradients are "
    "masked, and the white-box numbers are too high",
    "robust_above_clean": "more is right under attack than without one: an attack or a judgement is broken",
    "order_violated": "a stronger attack left more standing than a weaker one of the same budget",
    "reduced_budget": "fewer steps or queries than the attack's published setting; it may be stronger than shown",
    "training_mode": "the model came in training mode and was put into evaluation mode",
    "reused_smaller_epsilon": "images that fool the network within a smaller epsilon were kept, and only the others "
    "attacked: a worst case over these epsilons, with more tries than the attack has by itself",
    "low_precision_weaker": "crafted in low precision, the attack left more standing than in fp32 on the images where "
    "both were run; the number is too high",
}
"""Flag -> explanation, in the order of columns."""
