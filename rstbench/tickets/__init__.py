"""Tickets: masks over random or trained weights, their search, what trains under them, and the files of all these."""
