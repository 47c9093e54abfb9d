"""A static site from the files of leaderboards: a page for each threat model, and one for each entry.

`boards.read_boards` reads, `write.write_site` writes. The table component is DataTables, as the package itables has it.
"""
