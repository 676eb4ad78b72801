"""The orchestrator and its pool under load: ``python -m benchmarks.scale``."""
