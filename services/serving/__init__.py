"""What every process of this project runs on: middleware, HTTP limits, forms, JSON lines, logs, tracing."""
