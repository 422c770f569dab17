"""A reproducibility study of Self-Attention GAN (arXiv 1805.08318)."""

__version__ = "0.1.0"
