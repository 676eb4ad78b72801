"""The editor worker: an OpenAI-compatible ``/v1/images/edits`` in front of one image-editing pipeline."""
