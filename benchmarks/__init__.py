"""Measurements: `repro bench` runs those that have a function `measure`."""
