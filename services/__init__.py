"""The processes the orchestrator talks to. They share `services.wire` and nothing else."""
