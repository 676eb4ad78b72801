"""Instructions of a user as plain values, read in the same way by the editor and the thinker.

    phrases.toml     the phrase table: operations, looks, words, refusals, languages
    tokens -> clauses (vocabulary, languages) -> parser (regions, sliders, framing, contradictions) -> operations
    writing          the thinker's own phrases, which the parser reads back

No image code is imported here.
"""

from __future__ import annotations

from services.embedded.instructions.parser import parse

__all__ = ["parse"]
