"""The `repro` command. A person's mistake ends in one sentence and exit code 2; an interrupted run in exit
code 75.
"""

from __future__ import annotations

import errno
import inspect
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from . import runs
from .commands import results, scores, studies
from .errors import ReproError

app = typer.Typer(
    help="Reproduce Self-Attention GAN (arXiv 1805.08318): train, score and report the paper's tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS = (
    studies.reproduce,
    studies.train,
    results.report,
    scores.score,
    scores.validate,
    scores.attention,
    scores.sample,
    scores.export,
    results.check,
    results.calibrate,
    results.accept,
    results.site,
    scores.bench,
    studies.estimate,
    studies.commands,
    studies.status,
    studies.plan,
)


@app.callback()
def common(
    weights: Annotated[
        Path | None,
        typer.Option(help="Folder with Inception's weight files; default: $REPRO_WEIGHTS, or fetched once."),
    ] = None,
) -> None:
    """Take the options that every command shares."""
    if weights is not None:
        os.environ["REPRO_WEIGHTS"] = str(weights.resolve())  # training processes inherit it


for _command in COMMANDS:  # the help that Typer makes of a docstring would keep its line breaks
    _paragraphs = inspect.getdoc(_command).split("\n\n")
    app.command(help="\n\n".join(" ".join(paragraph.split()) for paragraph in _paragraphs))(_command)


def main() -> None:
    """Set up logging, run the command line, and exit with its code."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    for name in ("datasets", "papermill", "httpx", "matplotlib", "fsspec", "timm"):
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        app(arguments)
    except SystemExit as stop:  # also typer's own errors of usage, with code 2
        return stop.code or 0
    except ReproError as error:
        print(f"repro: {error}", file=sys.stderr)
        return 2
    except runs.Interrupted as stop:
        print(f"repro: {stop}", file=sys.stderr)
        return runs.INTERRUPTED
    except runs.RankDied as error:
        print(f"repro: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        where = f" at {error.filename}" if error.filename else ""
        print(
            f"repro: {error.strerror}{where}: free space or choose another folder (--out, or $REPRO_CACHE for"
            " prepared data), then run the same command again; finished steps are kept.",
            file=sys.stderr,
        )
        return 2
    return 0
