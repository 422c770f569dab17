"""How fast this is beside what a user could pick instead: the measurements in benchmarks/ as one table and
one JSON file.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

import pandas as pd

from .. import provenance, runs
from ..analysis.tables import to_markdown
from ..errors import ReproError, choose

log = logging.getLogger(__name__)

PLAIN = runs.PROJECT / "benchmarks" / "plain_loop.py"
SECTIONS = {  # file in benchmarks/ -> what it measures
    "training": (
        "images per second of the whole machine against the plain loop and peers, and against the convolution"
        " limit"
    ),
    "attention": "memory and time of attention at 64x64",
    "scoring": "scores against clean-fid's own",
    "studies": "the command, and notebooks over finished runs",
    "smoke": "the whole smoke study with one run at a time and with all cores (long)",
    "cluster": "the Ray executor with 512 runs at once that train nothing (long)",
}
DEFAULT = ("training", "attention", "scoring", "studies")
Peer = Callable[[int], Callable]  # base width -> step(images uint8 (B, 3, 32, 32), labels (B,))


@dataclass(frozen=True)
class Line:
    """One measurement. `ratio` says how many times better ours is than the other's, whatever the unit."""

    what: str
    unit: str
    ours: float
    against: str = ""
    other: float | None = None
    ratio: float | None = None
    target: str = ""  # the least ratio, such as ">= 3", or the bound on ours, such as "< 0.7"

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is no target."""
        if not self.target:
            return None
        sign, bound = self.target.split()
        return bool(self.ratio >= float(bound) if sign == ">=" else self.ours < float(bound))


def benchmark(name: str) -> ModuleType:
    """benchmarks/<name>.py, so imported that the processes it starts find it too."""
    if str(runs.PROJECT) not in sys.path:
        sys.path.insert(0, str(runs.PROJECT))
    return importlib.import_module(f"benchmarks.{name}")


def load_peer(path: str | Path) -> Peer:
    """`build` of a peer: a Python file, or a checkout that has one named bench_peer.py (see
    benchmarks/plain_loop.py).

    Raises ReproError when it cannot be loaded or has none.
    """
    path = Path(path).resolve()
    path = path / "bench_peer.py" if path.is_dir() else path
    try:
        return runpy.run_path(str(path))["build"]
    except KeyError:
        raise ReproError(f"{path} has no function build(width): see benchmarks/plain_loop.py.") from None
    except Exception as error:
        raise ReproError(
            f"{path} cannot be loaded ({type(error).__name__}: {error}): name a Python file that runs here."
        ) from error


def measure(sections: list[str], repeats: int, peers: list[str]) -> Iterator[Line]:
    """The lines of the sections, as they are measured. Raises ReproError for an unknown section or an
    unusable peer.
    """
    chosen = [choose("section", name, SECTIONS) for name in sections]
    for path in peers:
        load_peer(path)  # a mistake ends here
    for name in chosen:
        log.info("%s: %s", name, SECTIONS[name])
        yield from benchmark(name).measure(repeats, peers)


def table(lines: list[Line]) -> pd.DataFrame:
    """For a reader."""
    number = lambda value: "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
    met = {True: "met", False: "MISSED", None: ""}
    return pd.DataFrame(
        {
            "": line.what,
            "ours": f"{number(line.ours)} {line.unit}",
            "against": line.against,
            "other": number(line.other),
            "ratio": number(line.ratio),
            "target": line.target,
            "reached": met[line.met],
        }
        for line in lines
    )


def write(lines: list[Line], repeats: int, path: Path) -> None:
    """All lines with what made them, as JSON, and beside it the table as Markdown."""
    import torch

    machine = {
        "processor": provenance.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "code": provenance.code_revision(),
    }
    machine["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    machine["repeats"] = repeats
    content = machine | {"lines": [asdict(line) | {"met": line.met} for line in lines]}
    runs.write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    made = (
        f"{machine['processor']}, {machine['cores']} cores, {machine['gpu'] or 'no GPU'}, PyTorch"
        f" {machine['torch']}"
    )
    text = (
        f"# Speed\n\nWritten by `repro bench`: medians of {repeats} turns on {made}. Of a shared machine only"
        " the ratios mean something. A ratio is the median of those of the turns, not that of the"
        " medians.\n\n"
    )
    runs.write_atomically(path.with_suffix(".md"), (text + to_markdown(table(lines)) + "\n").encode())
