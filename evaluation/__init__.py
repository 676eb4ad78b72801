"""Does thinking pay? Benchmarks on any editor, thinker and judge, and sessions that become training data.

Everything here is a client of the public API: it imports the client and the wire's names, never a service.
"""
