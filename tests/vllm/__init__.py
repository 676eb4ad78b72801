"""Tests on a real vLLM, which serves tiny models on the CPU: ``make test-vllm``.

vLLM lives in an environment of its own (`install.sh`), and the tests in the project's, so they meet it as callers do: over
HTTP. They are collected only where ``EDITTHINKER_VLLM`` names the executable of that environment.

    install.sh     makes the environment
    tiny_vl.py     (run inside of it) writes the toys
    arguments.py   (run inside of it) asks vLLM's own parser about arguments
    serving.py     starts a server through our launcher
"""
