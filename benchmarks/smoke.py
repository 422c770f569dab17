"""The whole smoke study from nothing, one run at a time and as many as there are cores: what a second core
brings.
"""

import tempfile

from benchmarks.studies import seconds
from repro.checks.bench import Line


def measure(repeats: int, peers: list[str]):
    with tempfile.TemporaryDirectory() as folder:
        all_cores = seconds("reproduce", "--preset", "smoke", "--out", f"{folder}/all")
        # everything is trained now
        notebooks = seconds("reproduce", "--preset", "smoke", "--out", f"{folder}/all")
        one = seconds("reproduce", "--preset", "smoke", "--out", f"{folder}/one", "--jobs", "1")
    yield Line("smoke study", "s", all_cores, "one run at a time", one, one / all_cores, ">= 1.7")
    yield Line("notebooks' and reports' share of it", "", notebooks / all_cores, target="< 0.05")
