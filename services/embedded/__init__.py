"""Stand-ins that need no weights, so that the whole system runs on a laptop and in CI."""
