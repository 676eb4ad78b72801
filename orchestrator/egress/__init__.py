"""Requests to URLs that callers choose, with SSRF protection."""
