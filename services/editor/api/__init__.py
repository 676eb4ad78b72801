"""The editor worker's HTTP endpoints."""
