"""Which runs a study needs, and who trains them."""
