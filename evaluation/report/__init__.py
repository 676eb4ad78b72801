"""The report of a run: whether it paid, where, and at what cost, as one HTML page and as tables."""
