"""What both ends of a wire agree on: the Images API, the critique protocol, error codes, image limits.

Imports nothing else of this project; every service and the orchestrator may import it.
"""
