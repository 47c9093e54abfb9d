"""Tickets: masks over random weights, their search, and their files."""
