"""The thinker: it looks at an edit and says how to do better.

`services.embedded.thinker` is the embedded thinker, which measures pictures; other
profiles serve a vision-language model behind the same protocol.
"""
