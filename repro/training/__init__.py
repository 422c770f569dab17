"""One run: the loop and its checkpoints."""
