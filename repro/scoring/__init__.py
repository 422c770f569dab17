"""Scores of samples, and what attention maps attend to."""
