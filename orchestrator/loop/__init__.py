"""The pure domain: events (`events`), the state they fold into (`session`), and the next action (`policy`).

No I/O, no clock, no randomness: time and seeds are arguments.
"""
