"""Mistakes that a person can mend, each in one sentence, and the fields of configurations."""

from __future__ import annotations

import dataclasses
import difflib


class ReproError(ValueError):
    """A mistake a person can mend: its text is one sentence that says what is wrong and what to do. The CLI
    exits with 2.
    """


class SizeNotAvailable(ReproError):
    """The feature-map size does not exist in both networks at this resolution (shown as "n/a" in tables)."""


def choose(kind: str, name: str, allowed) -> str:
    """Return `name` if it is one of `allowed`; otherwise raise a `ReproError` that lists them and names the
    nearest.
    """
    allowed = list(allowed)
    if name in allowed:
        return name
    near = difflib.get_close_matches(str(name), allowed, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ReproError(f"Unknown {kind} {name!r}: choose one of {', '.join(allowed)}.{hint}")


def require(condition: bool, name: str, value, allowed: str) -> None:
    """Raise a `ReproError` with the field, its value and what is allowed, unless the condition holds."""
    if not condition:
        raise ReproError(f"{name} is {value!r}: it must be {allowed}.")


def later(default):
    """A field that came after runs were recorded: it stands in a run's identity only where it is not its
    default, which must be what the runs before it did. So older runs keep their configuration.
    """
    return dataclasses.field(default=default, metadata={"later": True})
