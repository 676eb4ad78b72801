"""The editor worker's engine: request handling, scheduling, and the thread that owns the device."""
