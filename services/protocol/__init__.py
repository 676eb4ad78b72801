"""What both ends of a wire agree on, and nothing else: the Images API and the critique protocol."""
