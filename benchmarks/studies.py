"""What the command and the notebooks cost when nothing is to train."""

import statistics
import subprocess
import sys
import tempfile
import time

from repro import runs
from repro.checks.bench import Line


def seconds(*words: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "repro", *words], cwd=runs.PROJECT, check=True, capture_output=True)
    return time.perf_counter() - start


def measure(repeats: int, peers: list[str]):
    for words, bound in ((("--help",), 0.7), (("status", "--out", "results"), 1.5)):
        yield Line(
            f"repro {words[0]}",
            "s",
            statistics.median(seconds(*words) for _ in range(repeats)),
            target=f"< {bound}",
        )
    notebooks = len(list((runs.PROJECT / "results/smoke").glob("*.ipynb")))
    with tempfile.TemporaryDirectory() as folder:
        each = (
            statistics.median(
                seconds("report", "--from", "results/smoke", "--to", folder) for _ in range(min(repeats, 3))
            )
            / notebooks
        )
    yield Line("a notebook over finished runs", "s", each, target="< 15")
