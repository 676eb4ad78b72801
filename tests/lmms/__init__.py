"""lmms-eval runs the whole loop as a model, in an environment of its own."""
