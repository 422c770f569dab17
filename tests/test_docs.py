"""What the pages say exists."""

import re

from repro import runs


def test_every_test_that_the_fault_table_names_exists():
    text = (runs.PROJECT / "docs" / "faults.md").read_text()
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    assert len(named) > 25
    for file, name in named:
        assert f"def {name}(" in (runs.PROJECT / "tests" / file).read_text(), name
    assert (runs.PROJECT / "benchmarks" / "kills.py").exists()
