"""Runs plain diffusers pipelines with continuous batching: the part that all diffusion families share."""
