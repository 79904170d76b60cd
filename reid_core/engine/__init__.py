"""The engine: the training loop, its hooks, checkpoints, the training command."""
