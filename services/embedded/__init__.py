"""The embedded stand-ins: an editor and a thinker without weights (docs/embedded-editor.md).

instructions/                 an instruction as plain values, read once for both
cielab.py, filters.py         colour spaces and filters
regions.py, geometry.py       parts of a picture with their checks; flips, turns and crops
retouching/                   what each operation means on pixels
editor/, thinker/             the two services, which know nothing of each other
"""
