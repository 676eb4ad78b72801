"""The domain, pure: what can happen (`events`), what has happened (`session`), what to do next (`policy`).

No I/O, no clock, no randomness: time and seeds arrive as values.
"""
