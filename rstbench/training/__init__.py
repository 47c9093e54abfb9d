"""The optimisation loop behind every dense baseline and every ticket search.

What is optimised is a `Subject`: the weights of a network (`Weights`), those that a frozen mask keeps
(`tickets.masked.MaskedWeights`), or the scores of a mask (`tickets.search.Scores`). One step: effective weights are
made once, the inner attack differentiates to the images only, one full forward and backward pass updates the subject.
On a GPU nothing in a step waits for a value: order, crops and noise are drawn on the CPU, ahead of the device.

Randomness of a step depends on (seed, step) alone, so a run that was killed goes on from its last saved step with the
same bits (same CPU, versions and thread count).
"""

from rstbench.training.batches import TrainingData
from rstbench.training.family import FamilySubject
from rstbench.training.objective import inner_images, learning_rate, training_loss
from rstbench.training.passes import numerics
from rstbench.training.run import Outcome, Progress, Run
from rstbench.training.seeds import derive_seed, generator
from rstbench.training.state import Checkpoints
from rstbench.training.subject import Subject, Weights

__all__ = [
    "Checkpoints",
    "FamilySubject",
    "Outcome",
    "Progress",
    "Run",
    "Subject",
    "TrainingData",
    "Weights",
    "derive_seed",
    "generator",
    "inner_images",
    "learning_rate",
    "numerics",
    "training_loss",
]
