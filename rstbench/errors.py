"""Errors a user can cause. Every one carries a message that says what is wrong, where, and what would be right.

The command line turns a `RstbenchError` into that one message and its `exit_code`, without a traceback.
Anything else that is raised is a defect of ours and keeps its traceback.
"""

from __future__ import annotations


class RstbenchError(Exception):
    """Base of all errors whose message is meant for the user."""

    exit_code = 2


class SpecError(RstbenchError):
    """A suite, or an option that changes it, is not valid."""


class DataError(RstbenchError):
    """A data set is missing, unreadable, or holds values out of range."""


class StoreError(RstbenchError):
    """The store cannot be read or written, or a stored value is damaged."""


class TicketError(RstbenchError):
    """A ticket or checkpoint file is damaged, or belongs to another network."""


class DeviceError(RstbenchError):
    """The requested device is absent, or too small even for the smallest batch."""


class RunError(RstbenchError):
    """A run ended short of its goal."""

    exit_code = 1


class DivergenceError(RunError):
    """A loss became infinite or not a number."""


class AttackError(RunError):
    """An attack returned images outside its threat model or outside [0, 1]."""


class ChallengeError(RstbenchError):
    """Adversarial images that were handed in are no challenge: unreadable, out of range, or beyond the budget."""


class ModelError(RstbenchError):
    """A model from elsewhere cannot be had, or does not answer as a classifier of these images must."""
