"""Generators, discriminators and their losses."""
