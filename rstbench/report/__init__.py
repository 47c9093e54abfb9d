"""What the store holds, as tables: measurements, intervals, flags, the paper's values beside them. Imports no torch.

Nothing is imported here; `publish.publish` writes the files of a run, `robustbench.write_model_info` those of
RobustBench's leaderboard, `paper` knows the paper's tables.
"""
