"""What the store holds, as tables: measurements, intervals, and the paper's values beside them. Imports no torch.

Nothing is imported here; `publish.publish` writes the files of a run, `paper` knows the paper's tables.
"""
