"""What each operation means on pixels: the editor carries it out, and the thinker expects it, on a thumb.

picture.py                       CIELAB in float32, and the masks that confine operations
tone.py, colour.py, effects.py   the operations
retouch.py                       one operation by its kind
"""
