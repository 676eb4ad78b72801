"""The critique protocol: what a thinker is asked, how it replies, and how its replies are read."""
