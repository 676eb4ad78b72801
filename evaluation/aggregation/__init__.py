"""From judges' scores of items to a benchmark's numbers, as its official scripts compute them. Pure functions.

Each module says which script and commit it follows. `scored.Scored` is one item's scores; a module's ``aggregate`` makes the
tables of an arm, and ``point`` an item's part in the headline, of which `evaluation.statistics` makes intervals.
"""
