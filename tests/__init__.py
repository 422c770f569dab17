"""The tests, by room.

A package, so that the processes of tests import it, and not the one of this name that a dependency installs.
"""
