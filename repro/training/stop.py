"""What ends a run before its last step, a request or a collapse, and what keeps it from beginning: another
process that trains it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from .. import runs

log = logging.getLogger(__name__)

COLLAPSE_DIVERSITY = 0.05  # collapsed when samples vary less than this share of what real images do,
# or when FID is past this many times its best at two scored steps in a row (paper, Figure 3: SN on G and D
# ends at 2.2)
COLLAPSE_FID = 2.0


class StopRequest:
    """Whether a run was asked to end, by SIGINT, SIGTERM or its time limit."""

    def __init__(self, max_minutes: float):
        self.deadline = time.monotonic() + 60 * max_minutes
        self.signalled = self.raising = False

    def __call__(self) -> bool:
        """Whether to stop now."""
        return self.signalled or time.monotonic() > self.deadline

    def hear(self, *_) -> None:
        """The signal handler."""
        self.signalled = True
        if self.raising:
            raise runs.Interrupted

    @contextmanager
    def heard_at_once(self) -> Iterator[None]:
        """A block that a signal ends in its middle (runs.Interrupted): for long work that changes nothing
        before its end.
        """
        self.raising = True
        try:
            yield
        finally:
            self.raising = False


def claim(lock: FileLock, run: runs.Run, stop: StopRequest) -> None:
    """Take the run folder's lock. The system frees a dead owner's; waits for a live one's. Raises
    runs.Interrupted.
    """
    while True:
        try:
            lock.acquire(timeout=1)
            return
        except Timeout:
            log.info("another process trains this run: waiting for it")
            if stop():
                raise runs.Interrupted(
                    f"{run.folder} is being trained by another process; the same command waits for it."
                ) from None


def collapse(scores: list[dict]) -> str | None:
    """Why a run with these scores has collapsed, or None when it has not."""
    if scores[-1]["diversity"] < COLLAPSE_DIVERSITY:
        return "samples no longer differ from one another"
    bound = COLLAPSE_FID * runs.best(scores)["fid"]
    if all(score["fid"] > bound for score in scores[-2:]):
        return f"FID past {COLLAPSE_FID:g} times its best twice in a row"
    return None
