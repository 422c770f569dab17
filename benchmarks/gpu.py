"""The drill of a lent GPU, in the order in which its answers matter: `python -m benchmarks.gpu` (`make gpu`).

tests, those marked gpu; speed, one run and several at once, and a score of 50,000 images; study, the rows of
a preset, several at once on one GPU, each step a CUDA graph; pack, what is brought back. The study goes on
where an earlier call stopped it. Without a GPU the same with the smallest preset, as a rehearsal
(docs/gpu.md).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks import training
from repro import parallel, runs
from repro.checks import bench
from repro.checks.bench import Line
from repro.config import Config
from repro.errors import choose
from repro.execution import Execution
from repro.networks import resnet
from repro.presets import PRESETS
from repro.recipes import Recipe
from repro.scoring import extraction, metrics, sampling
from repro.scoring.features import load_extractor
from repro.scoring.scores import score

OUT = runs.PROJECT / "outputs" / "gpu"
SECONDS = 6.0  # that several processes train at once
SAMPLES = 50_000  # of the score that is timed
GPU = parallel.device() == "cuda"


def tests(_) -> int:
    """The tests marked gpu."""
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "gpu",
        "-rs",
        "-s",
        "--durations=5",
        "tests/training/test_gpu.py",
    ]
    return subprocess.call(words, cwd=runs.PROJECT, env=os.environ | {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"})


@contextmanager
def shared_gpu(wanted: bool):
    """CUDA's Multi-Process Service, so that kernels of several processes run side by side; yields whether it
    runs. On the H200 that was tried its clients never got ready, so it is an option (docs/gpu.md).
    """
    if not (wanted and GPU):
        yield False
        return
    folders = {"CUDA_MPS_PIPE_DIRECTORY": "/tmp/mps", "CUDA_MPS_LOG_DIRECTORY": "/tmp/mps-log"}
    os.environ |= folders
    for folder in folders.values():
        Path(folder).mkdir(exist_ok=True)
    try:
        running = subprocess.call(["nvidia-cuda-mps-control", "-d"]) == 0
    except FileNotFoundError:
        running = False
    if not running:
        print("CUDA's Multi-Process Service does not run here.", flush=True)
    try:
        yield running
    finally:
        if running:
            subprocess.run(["nvidia-cuda-mps-control"], input=b"quit\n", check=False)
        for name in folders:
            del os.environ[name]


def steps_in(seconds: float, preset: str, graphed: bool, barrier) -> float:
    """Steps a second of this process, once all are ready."""
    step = training.our_step(PRESETS[preset], 16, graphed=graphed)
    for _ in range(6):
        step()
    barrier.wait(timeout=120)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(5):
            step()
        if GPU:
            torch.cuda.synchronize()
        done += 5
    return done / (time.perf_counter() - start)


def at_once(count: int, preset: str, graphed: bool, mps: bool):
    """A line: steps a second of so many runs together."""
    spawn = multiprocessing.get_context("spawn")
    with shared_gpu(mps) as shared, spawn.Manager() as manager, ProcessPoolExecutor(count, spawn) as pool:
        if mps and not shared:
            return
        barrier = manager.Barrier(count)
        jobs = [pool.submit(steps_in, SECONDS, preset, graphed, barrier) for _ in range(count)]
        rates = [job.result() for job in jobs]
    how = ", ".join(word for word, on in (("CUDA graphs", graphed), ("MPS", mps)) if on) or "as they stand"
    yield Line(f"training, {preset}, {count} at once, {how}", "steps/s", sum(rates))


def kernels(preset: str):
    """Kernels of a step as it stands, and the share of its time in which the GPU computes."""
    from torch.profiler import ProfilerActivity, profile

    step = training.our_step(PRESETS[preset], 16)
    for _ in range(5):
        step()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        start = time.perf_counter()
        for _ in range(3):
            step()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    events = [e for e in seen.key_averages() if e.device_type == torch.autograd.DeviceType.CUDA]
    yield Line(f"kernels a step, {preset}", "", sum(e.count for e in events) / 3)
    busy = sum(e.self_device_time_total for e in events) / 1e6
    yield Line(f"GPU's time in a step, {preset}", "ms", 1000 * busy / 3, "the step", 1000 * seconds / 3)


def scoring(preset: str, count: int):
    """Seconds of a score of so many samples with the references at hand, and of its parts."""
    of, device = PRESETS[preset], parallel.device()
    config = Config(Recipe(), of, attention_at=(16,), num_classes=10)
    g, extractor = resnet.build(config)[0].to(device), load_extractor(of.extractor).to(device)
    rng = np.random.default_rng(0)
    shape = (min(count, 10_000), of.resolution, of.resolution, 3)
    real = extraction.extract(extractor, rng.integers(0, 256, shape, np.uint8), metrics.KEPT)
    real.statistics[""].root  # noqa: B018  kept by the reference
    marks = [time.perf_counter()]
    images, labels = sampling.sample(g, config, count, of.precision, device)
    marks.append(time.perf_counter())
    found = extraction.extract(extractor, images, count)
    marks.append(time.perf_counter())
    score(real, found, extended=True)
    marks.append(time.perf_counter())
    by_class = found.by_class(labels)
    all_of = {k: metrics.Statistics.of(f, device) for k, f in by_class.items()}
    if min(map(len, by_class.values())) >= metrics.MINIMUM_PER_CLASS:
        metrics.intra_class_fid(all_of, all_of)
    marks.append(time.perf_counter())
    parts = dict(zip(("samples", "features", "distances", "intra FID"), np.diff(marks), strict=True))
    for part, seconds in parts.items():
        yield Line(f"a score of {count:,}: {part}", "s", float(seconds))
    yield Line(f"a score of {count:,}, in all", "s", marks[-1] - marks[0], target="< 60" if GPU else "")


def speed(args) -> int:
    """One run, several at once, a score."""
    if GPU:
        parts = [lambda: at_once(1, args.preset, True, args.mps), lambda: scoring("cifar10-gpu", SAMPLES)]
        parts += [lambda: at_once(args.jobs, args.preset, True, args.mps)]
        parts += [lambda: at_once(1, args.preset, False, False), lambda: kernels(args.preset)]
        parts += [training.operations, lambda: training.on_gpu(1)]
    else:
        parts = [lambda: at_once(2, args.preset, False, False), training.operations]
        parts += [lambda: scoring(args.preset, 1000)]
    lines = []
    for part in parts:
        try:
            for line in part():
                lines.append(line)
                print(
                    f"{line.what}: {line.ours:.4g} {line.unit} {line.against} {line.other or ''}", flush=True
                )
                bench.write(lines, 1, OUT / "bench.json")  # a call may end at any time
        except Exception as error:  # the next part may tell more
            print(f"a measurement failed: {type(error).__name__}: {str(error)[:500]}", flush=True)
        if GPU:
            torch.cuda.empty_cache()
    return 0


def study(args) -> int:
    """Train the preset's rows, all seeds, several at once."""
    from repro.studies import trainer
    from repro.studies.study import Study

    with shared_gpu(args.mps):
        of = Study(
            args.preset,
            args.seeds or PRESETS[args.preset].seeds,
            out=args.out,
            data=args.data,
            jobs=args.jobs,
            max_minutes=args.minutes,
            execution=Execution(graphed=GPU),
        )
        try:
            trainer.train(of, of.tasks(of.preset.tables))
        except runs.Interrupted as stopped:
            print(stopped)
            return runs.INTERRUPTED
    return 0


def pack(args) -> int:
    """A file of records and pictures a seed, the first seed's generators, and the speeds."""
    from repro.reports.export import export

    to = Path(args.to)
    to.mkdir(parents=True, exist_ok=True)
    folder = runs.PROJECT / args.out / args.preset
    for seed in sorted({path.name for path in folder.glob("runs/*/seed*")}):
        with tarfile.open(to / f"{seed}.tar", "w") as tar:
            for path in sorted(folder.glob(f"runs/*/{seed}/*")):
                if path.suffix in (".json", ".jpg", ".npz", ".log"):
                    tar.add(path, path.relative_to(folder))
    for path in sorted(folder.glob("runs/*/seed0/best.pt")):
        export(path.parent, to / f"{path.parent.parent.name}.safetensors")
        (to / f"{path.parent.parent.name}.md").unlink()
    rest = [OUT / "bench.json", OUT / "bench.md", folder / f"real{runs.PICTURE}"]
    with tarfile.open(to / "rest.tar", "w") as tar:
        for path in rest:
            if path.exists():
                tar.add(path, path.name)
    print(json.dumps({path.name: path.stat().st_size for path in sorted(to.iterdir())}))
    return 0


def main(words: list[str] | None = None) -> int:
    """Run the phases that the words name, all without any. Returns the first exit code that is not 0."""
    phases = {phase.__name__: phase for phase in (tests, speed, study, pack)}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("phase", nargs="*", default=[*phases], metavar="PHASE")
    parser.add_argument("--preset", default="cifar10-gpu" if GPU else "rehearsal")
    parser.add_argument("--data", help="a folder of Parquet files or of class folders")
    parser.add_argument("--out", default="outputs", help="the folder of studies")
    parser.add_argument("--seeds", type=int, help="training seeds a row; default: the preset's")
    parser.add_argument("--jobs", type=int, default=3 if GPU else 2, help="runs at once")
    parser.add_argument("--minutes", type=float, default=9.0, help="of the study, in this call")
    parser.add_argument("--mps", action="store_true", help="with CUDA's Multi-Process Service")
    parser.add_argument("--to", default=str(OUT / "back"), help="where pack writes")
    args = parser.parse_args(words)
    OUT.mkdir(parents=True, exist_ok=True)
    codes = [phases[choose("phase", name, phases)](args) for name in args.phase]
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    raise SystemExit(main())
