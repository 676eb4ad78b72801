"""Administration commands: API keys, quotas, sweeping."""
