"""Honesty benchmark: when the stack says that it is satisfied, is the picture right, and does it say when it did nothing?

`photos.yaml` has the photographs with regions drawn by hand, and `instructions.yaml` what is asked of them and what would be
right. `measures` and `damage` judge the answers with colour maths of their own; they share no code with editor or thinker.
"""
