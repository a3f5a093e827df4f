"""Training: configuration, losses, step, loop, state, export."""
