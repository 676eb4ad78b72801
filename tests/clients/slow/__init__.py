"""Clients with their own defaults against an editor that takes minutes: ``python -m tests.clients.slow``."""
