"""Random edit requests to workers of every family: what is answered, which picture, and what is left behind."""
