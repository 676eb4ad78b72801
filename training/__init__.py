"""The thinker, trained: rewards for reinforcement learning, and a miniature that runs on a CPU.

Everything here is a client: it imports no service. Only `training.miniature.world` runs the embedded editor in its own
process, through `services.embedded.editor.ClassicalPipeline`.
"""
