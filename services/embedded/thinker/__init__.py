"""The embedded thinker: it measures pictures instead of looking at them with a model.

    text       instruction_parser.py (words, look_phrases, sentence_patterns) -> intent.py
    pictures   pixels.py -> measurements.py: figures in CIELAB of one picture, and of two
    target     looks.py, intent.py -> target_picture.py: what the source should become
    critique   checks.py, evidence.py, score.py, explain.py, checklist_answers.py -> judging.py
    next turn  slider_model.py, solver.py -> refine.py: the refined instruction
    server     chat_completions.py, reply_constraints.py, thread_pool.py -> app.py

All but the server is pure: arrays and texts in, a critique out. It knows nothing of the editor but the usual meaning of
its phrases.
"""

from services.embedded.thinker.judging import judge

__all__ = ["judge"]
