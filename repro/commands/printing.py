"""What commands print: sentences and tables."""

from __future__ import annotations

import sys
from pathlib import Path

from .. import runs


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def relative(path: Path) -> Path:
    """The path as seen from the project, where it is inside."""
    return path.relative_to(runs.PROJECT) if path.is_relative_to(runs.PROJECT) else path


def say_in_brief(study, folder: Path) -> None:
    """What a study found, where to look and what comes next: a line each."""
    from ..analysis import findings

    say(f"Found: {findings.in_brief(study)}")
    say(f"Look:  {relative(folder)} has the notebooks, tables and figures.")
    say(f"Next:  {findings.next_step(study)}")


def print_frame(frame, title: str) -> None:
    """Print a data frame as a table under its title."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for column in frame:
        table.add_column(str(column), no_wrap=column == "", overflow="fold")
    for line in frame.itertuples(index=False):
        table.add_row(*map(str, line))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
