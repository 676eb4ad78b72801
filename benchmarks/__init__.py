"""Measurements of the whole stack from the outside: nothing here imports a service."""
