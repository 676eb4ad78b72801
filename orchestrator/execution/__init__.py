"""Carries out what the loop decides: drivers of sessions, and the replica that runs them."""
