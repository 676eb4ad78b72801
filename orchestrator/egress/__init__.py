"""The SSRF guard: requests to addresses that callers choose."""
