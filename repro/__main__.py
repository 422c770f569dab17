"""`python -m repro`: the same as the `repro` command."""

from .cli import main

main()
