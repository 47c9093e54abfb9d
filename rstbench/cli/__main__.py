"""`python -m rstbench.cli`."""

from rstbench.cli import main

main()
