"""Clients of editors and thinkers."""
