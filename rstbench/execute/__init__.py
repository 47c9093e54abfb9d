"""Who runs which node where."""
