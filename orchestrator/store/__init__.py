"""Where sessions and images live: Redis streams and a content-addressed blob store."""
