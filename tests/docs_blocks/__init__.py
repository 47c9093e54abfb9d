"""Fenced code blocks of README, CONTRIBUTING and docs: found, and run as far as a test can."""
