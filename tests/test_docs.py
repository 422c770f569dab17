"""What the pages say exists."""

import re
import shlex

import pytest
import typer

from repro import cli, runs
from repro.presets import PRESETS
from repro.reports import readme

PAGES = [*sorted(runs.PROJECT.glob("[CR]*.md")), *sorted((runs.PROJECT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page, least", [("faults", 26), ("cluster", 10)])
def test_every_test_that_a_fault_table_names_exists(page, least):
    text = (runs.PROJECT / "docs" / f"{page}.md").read_text()
    named = re.findall(r"`([\w/]*test_\w+\.py)::(test_\w+)", text)
    assert len(named) >= least and not re.search(r"`test_\w+[`\[]", text)  # each with its file
    for file, name in named:
        assert f"def {name}(" in (runs.PROJECT / "tests" / file).read_text(), name
    assert (runs.PROJECT / "benchmarks" / "kills.py").exists()


def commands(text):
    """Every command line of repro in code: in a block, or in a line's back quotes."""
    blocks = re.findall(r"^```\n(.*?)^```", text, re.S | re.M)
    joined = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`([^`]+)`", re.sub(r"^```\w*\n.*?^```", "", text, flags=re.S | re.M))
    for line in joined + inline:
        found = re.match(r"\s*(?:\.venv/bin/)?repro ([a-z]\w*)(.*)", line)
        if found:
            yield found[1], shlex.split(found[2].split("&&")[0].split(" > ")[0], comments=True)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_has_its_options_and_presets(path):
    known = typer.main.get_command(cli.app).commands
    found = list(commands(path.read_text()))
    assert found
    for name, words in found:
        assert name in known, (name, words)
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= options, (name, words)
        if "--preset" in words and (preset := words[words.index("--preset") + 1]).islower():
            assert preset.strip(".,") in PRESETS, (name, words)


def test_every_part_that_can_be_generated_stands_in_a_page():
    pages = "".join((runs.PROJECT / name).read_text() for name in readme.PAGES)
    assert {part[1].split()[0] for part in readme.PART.finditer(pages)} == set(readme.PARTS)


def test_the_readme_is_read_in_a_minute():
    assert len((runs.PROJECT / "README.md").read_bytes()) <= 8_000
