"""The thinker's launcher: starts vLLM with a profile, or the embedded thinker of `services.embedded.thinker`."""
