"""The tests, by room. A package, as a dependency installs another one of this name: a test's own processes import
this one.
"""
