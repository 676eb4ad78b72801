"""Carries out what the loop decides: drivers of sessions, and the runner that claims sessions for them."""
