"""The embedded thinker: it measures pictures instead of looking at them.

    words      reading.py (+ words, sayings, structure)  ->  wishes.py: a wish as measurable parts
    pictures   pixels.py -> measure.py, compare.py        figures in CIELAB of one picture, of two
    target     looks.py, imagine.py -> aim.py             what this source should become
    verdict    checks.py, evidence.py, score.py, explain.py -> critique.judge
    next step  respond.py, control.py -> refine.py        amounts in words for the next attempt

Everything here is pure: arrays and texts in, a critique out. It knows nothing of the
editor but the usual meaning of the words it says to it.
"""

from services.embedded.thinker.judging import judge

__all__ = ["judge"]
