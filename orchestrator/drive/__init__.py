"""Carries the loop's actions out: the driver of a session, and the HTTP clients of editor and thinker."""
