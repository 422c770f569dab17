"""What each command does: its options, then one call. `repro.cli` gathers them."""
