"""Parts of the system with something real under them: an HTTP server on loopback, a diffusion pipeline, a child process."""
