"""The ports: protocols and values through which the orchestrator sees editors, thinkers, storage, time and observers."""
