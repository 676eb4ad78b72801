"""What the diffusion families share: how a plain diffusers pipeline becomes one whose edits can be interleaved."""
