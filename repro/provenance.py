"""What made a run: the code, the packages and the machine that its record names."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from .execution import Execution

PACKAGE = Path(__file__).resolve().parent


@functools.cache
def code_revision() -> dict:
    """Git commit and whether tracked files differ from it, None where this is no checkout; and a hash of the
    package's sources.
    """

    def git(*words: str) -> str | None:
        try:
            return subprocess.run(
                ["git", *words], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    commit = git("rev-parse", "HEAD")
    status = git(
        "status", "--porcelain", "--untracked-files=no", "--", "repro", "pyproject.toml", "constraints.txt"
    )
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(PACKAGE.rglob("*.py"))))
    return {
        "commit": commit,
        "dirty": None if commit is None else bool(status),
        "sources": sources.hexdigest()[:16],
    }


def revisions(record: dict) -> list[str]:
    """The code that made a run, in turn where it changed: each the commit to check out, or where it was none
    as it stood the hash of the sources.
    """
    made = record["provenance"]
    return list(dict.fromkeys(map(_revision, [*made.get("earlier_code", ()), made["code"]])))


def command(record: dict, preset: str, seed: int | str) -> str:
    """What makes a recorded run of the preset again, computed as it was; FOLDER stands for its data."""
    words = ["repro train", record["row"], "--preset", preset]
    if record["config"]["preset"]["dataset"] != "symmetric_shapes":
        words.append("--data FOLDER")
    return " ".join([*words, *Execution.recorded(record["provenance"]).options, "--seed", str(seed)])


def _revision(code: dict) -> str:
    if code.get("commit") and not code["dirty"]:
        return f"commit {code['commit'][:10]}"
    return f"sources {code['sources']}" if "sources" in code else "unknown"


# of a record's provenance: what decides a run's last digits, beside its configuration
MADE_BY = ("code", "packages", "processor", "gpu", "device", "devices", "threads", "precision")
MADE_BY += ("compiled", "cuda_graphs", "accumulate")


def made_by(record: dict) -> dict[str, list]:
    """What made a run, by MADE_BY: the values in turn, several where it moved; code by its sources, which
    other commits may share.
    """
    made = record["provenance"]
    found = {name: [*made.get(f"earlier_{name}", ()), made.get(name)] for name in MADE_BY}
    return found | {"code": list(dict.fromkeys(code.get("sources") for code in found["code"]))}


def processor() -> str:
    """The processor's name where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def made_here(threads: int, precision: str, device: str) -> dict:
    """Where and with what a run is made. No host name, user or path of the machine."""
    return {
        "code": code_revision(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("torch", "numpy", "timm", "datasets", "pillow")},
        "system": platform.system(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "device": device,
        "threads": threads,
        "precision": precision,
    }
