"""Kill `repro reproduce` with SIGKILL at random moments by the clock, and see that the study ends as one
never interrupted.

    python benchmarks/kills.py [--kills 20] [--seed 0]

Half of the kills hit the command alone, whose training processes then go on by themselves; half hit all of
its processes. Checkpoints, records, tables and samples are compared with those of an uninterrupted study.
Prints a line a kill; exit code 1 when anything differs.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from repro import runs
from repro.training.checkpoint import read_checkpoint

COMMAND = [
    sys.executable,
    "-m",
    "repro",
    "reproduce",
    "--preset",
    "rehearsal",
    "--tables",
    "figure3",
    "--out",
]


def start(out: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def phase(out: Path) -> str:
    """Where the study stands: the step of each run, and the notebooks there are."""
    steps = {
        p.parent.parent.name: runs.Run(p.parent).read()["step"]
        for p in sorted(out.glob("rehearsal/runs/*/seed0/run.json"))
    }
    notebooks = [p.stem for p in sorted(out.glob("rehearsal/[!.]*.ipynb"))]
    return ", ".join([*(f"{row} at step {step}" for row, step in steps.items()), *notebooks]) or "nothing yet"


def ended(out: Path) -> dict:
    """What the study left, by name: records without times, checkpoints as text of all their numbers, tables,
    samples.
    """
    left = {}
    for path in sorted((out / "rehearsal").rglob("*")):
        name = str(path.relative_to(out))
        if path.name == "run.json":
            left[name] = {k: v for k, v in runs.Run(path.parent).read().items() if k != "provenance"}
        elif path.name == "checkpoint.pt":
            state = read_checkpoint(path)
            left[name] = {
                k: repr([(n, getattr(t, "tolist", lambda t=t: t)()) for n, t in sorted(state[k].items())])
                for k in ("g", "d")
            }
            left[name] |= {k: repr(state[k]["state"]) for k in ("optimiser_g", "optimiser_d")}
        elif path.suffix in (".csv", ".md", ".png", runs.PICTURE):
            left[name] = path.read_bytes()
    return left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance, folder = random.Random(options.seed), Path(tempfile.mkdtemp())
    begun = time.monotonic()
    assert start(folder / "straight").wait() == 0
    length, expected = time.monotonic() - begun, ended(folder / "straight")
    print(f"uninterrupted: {length:.0f} s, {len(expected)} files to compare", flush=True)

    kills, study, wrong = 0, 0, 0
    while kills < options.kills:
        out, study = folder / str(study), study + 1
        while True:
            process = start(out)
            try:
                code = process.wait(timeout=chance.uniform(1, length) if kills < options.kills else None)
            except subprocess.TimeoutExpired:
                alone = chance.random() < 0.5
                print(
                    f"kill {kills + 1} ({'the command' if alone else 'all processes'}): {phase(out)}",
                    flush=True,
                )
                process.kill() if alone else os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
                continue
            assert code == 0, f"exit code {code}"
            break
        found = ended(out)
        differ = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        wrong += bool(differ)
        print(
            f"study {study}: {'differs in ' + ', '.join(differ) if differ else 'ended in the same bits'}",
            flush=True,
        )
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
