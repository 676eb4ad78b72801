"""The editor worker's engine: scheduling, and the one thread that owns the device."""
