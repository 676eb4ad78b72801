"""The embedded thinker: it measures pictures instead of looking at them with a model.

    pictures.py -> measurements.py      figures in CIELAB of one picture, and of two
    looks.py, forward.py -> evidence.py what the source should become, and how the candidate compares
    parts.py, quality.py                how far each clause is done; what is damaged
    solver.py -> refine.py              the refined instruction
    judging.py, checklist_answers.py    the critique
    app.py                              the server: chat_completions, reference_prompts, reply_constraints, area, thread_pool

All but the server is pure: arrays and texts in, a critique out. What the editor says it did is never read.
"""

from services.embedded.thinker.judging import judge

__all__ = ["judge"]
