"""Drives the Think-while-Edit cycle. Start reading at `orchestrator/loop/policy.py`."""
