"""The processes the orchestrator talks to, and what all processes share: `errors`, `protocol`, `imaging`, `serving`."""
