"""Versions of what the builders compute. A change of a builder's result bumps its number, and so its keys."""

BUILDER_VERSIONS = {
    "data": 1,
    "train": 1,
    "search": 1,
    "rtt": 1,
    "tune": 1,
    "lottery": 1,
    "model": 1,
    "craft": 3,
    "challenge": 1,
    "predict": 1,
    "join": 1,
    "measure": 1,
}
