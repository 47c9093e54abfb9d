"""Leaderboards: from a store to files that others can check."""
