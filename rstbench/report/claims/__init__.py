"""Claims of the paper's text, and what stored measurements say of each. Imports no torch.

`catalogue.CLAIMS` lists them, `rules` says when one is supported or refuted, `judge.judge` decides, `render` prints.
Nothing is imported here.
"""
