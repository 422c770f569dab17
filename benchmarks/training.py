"""Training speed of the whole machine as a study runs it, against loops that people start from.

Ours: as many single-thread processes as the machine has cores, each with the updates of
repro/training/updates.py. The others: one process with PyTorch's default threads. All train the 32 px network
with attention at 16 on batches of 64; the sides take turns. The arithmetic is counted as the plain loop's
(resampling fused with its convolutions needs a third less), and set beside what a 3x3 convolution of 128
channels reaches on all cores, in the precision that is trained in. On a GPU also the GPU presets.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from repro import parallel
from repro.checks.bench import PLAIN, Line, load_peer
from repro.config import Config
from repro.data.images import Batches, ImageData
from repro.networks import resnet
from repro.presets import PRESETS, Preset
from repro.recipes import Recipe
from repro.studies.executors import ALLOCATION
from repro.training import draws, updates
from repro.training.graphs import GraphedUpdates

BATCH, STEPS, CLASSES = 64, 12, 10
TARGETS = {16: 3.0, 32: 2.0}  # base width -> least ratio to the plain loop
SHARE = 0.6  # of the convolution limit, at least
_kept = {}  # what each process built, kept between its turns


def random_images(resolution: int, count: int) -> ImageData:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, resolution, resolution, 3), dtype=np.uint8)
    return ImageData(
        "random", images, rng.integers(CLASSES, size=count), tuple(map(str, range(CLASSES))), "random"
    )


def our_step(preset: Preset, *attention_at: int, graphed: bool = False, parts: int = 1):
    """The loop's own step, with its draws; `graphed` as one CUDA graph, or the batch in `parts`."""
    device = parallel.device()
    updates.set_up_gpu()
    if device == "cpu":
        torch.set_num_threads(preset.threads)
    recipe = Recipe() if parts == 1 else Recipe(bn_batch=preset.batch_size // parts)
    config = Config(
        recipe, dataclasses.replace(preset, steps=10**9), attention_at=attention_at, num_classes=CLASSES
    )
    g, d = (network.to(device) for network in resnet.build(config))
    optimiser_g, optimiser_d = updates.make_optimisers(config, g, d, graphed)
    precision = updates.native_precision(preset.precision)
    drawn = draws.prefetched(
        config,
        Batches(random_images(preset.resolution, 4 * preset.batch_size), preset.batch_size, 0, False),
        0,
        device,
    )

    def update(of_d: tuple, of_g: tuple) -> tuple:
        return (
            *updates.update_d(config, g, d, optimiser_d, precision, *of_d, parts=parts),
            updates.update_g(config, g, d, optimiser_g, *of_g, precision, parts),
        )

    step = GraphedUpdates(update, g, d) if graphed else update
    return lambda: step(*next(drawn))


class _Dispatched(TorchDispatchMode):
    """Counts the operations that reach a device."""

    count = 0

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        self.count += 1
        return operation(*arguments, **(named or {}))


def operations():
    """Operations of a step, which a processor launches one by one; they do not depend on batch or width."""
    small = dataclasses.replace(PRESETS["cifar10-cpu"], channels=8, batch_size=4)
    for row, attention_at in (("no block", ()), ("attention at 16", (16,))):
        step = our_step(small, *attention_at)
        step()
        with _Dispatched() as seen:
            step()
        yield Line(f"operations a step, {row}", "", seen.count)


def in_parts(repeats: int, parts: int = 4):
    """Images a second of one process: a batch in parts beside the whole one."""
    whole, divided = (our_step(PRESETS["cifar10-cpu"], 16, parts=n) for n in (1, parts))
    rates = {}
    for step in (whole, divided):
        step()
    for _ in range(repeats):
        for name, step in (("whole", whole), ("divided", divided)):
            start = time.perf_counter()
            for _ in range(STEPS // 2):
                step()
            rates.setdefault(name, []).append(STEPS // 2 * BATCH / (time.perf_counter() - start))
    ratio = statistics.median(d / w for d, w in zip(rates["divided"], rates["whole"], strict=True))
    ours, other = (statistics.median(rates[name]) for name in ("divided", "whole"))
    yield Line(f"training, a batch in {parts} parts", "images/s", ours, "the whole batch", other, ratio)


def peer_step(path: str, width: int):
    step, data = load_peer(path)(width), random_images(32, BATCH)
    images, labels = (
        torch.from_numpy(data.images).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(data.labels),
    )
    return lambda: step(images, labels)


def images_per_second(side: str, width: int) -> float:
    """Of this process; the first call builds the networks and warms up. side: "ours" or a peer's path."""
    if side not in _kept:
        _kept[side] = (
            our_step(dataclasses.replace(PRESETS["cifar10-cpu"], channels=width), 16)
            if side == "ours"
            else peer_step(side, width)
        )
        for _ in range(3):
            _kept[side]()
    start = time.perf_counter()
    for _ in range(STEPS):
        _kept[side]()
    return STEPS * BATCH / (time.perf_counter() - start)


def convolution_limit() -> float:
    """GFLOP/s of this process in a large convolution on one thread, in the precision of training."""
    torch.set_num_threads(1)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[updates.native_precision("bf16")]
    x, w = (
        torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)
        for shape in ((32, 128, 16, 16), (128, 128, 3, 3))
    )
    times = []
    for _ in range(12):
        start = time.perf_counter()
        F.conv2d(x, w, padding=1)
        times.append(time.perf_counter() - start)
    return 2 * 9 * 128 * 128 * 32 * 16 * 16 / statistics.median(times) / 1e9


def gflop_an_image(plain: str, width: int) -> float:
    """Of a training step of the plain loop."""
    step = peer_step(plain, width)
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / BATCH / 1e9


def on_cpu(width: int, repeats: int, peers: list[str]):
    cores, spawn, plain = len(os.sched_getaffinity(0)), multiprocessing.get_context("spawn"), str(PLAIN)
    others, turns, limits = [plain, *peers], [], []
    with (
        mock.patch.dict(os.environ),  # what is set below ends here
        ProcessPoolExecutor(1, spawn) as one,
        ProcessPoolExecutor(cores, spawn) as many,
    ):
        for _ in range(repeats + 1):
            turn = {side: one.submit(images_per_second, side, width).result() for side in others}
            os.environ |= (
                ALLOCATION  # our processes start now, as a study starts them; the others' one has started
            )
            turn["ours"] = sum(
                f.result() for f in [many.submit(images_per_second, "ours", width) for _ in range(cores)]
            )
            turn["one"] = many.submit(images_per_second, "ours", width).result()
            limits.append(sum(f.result() for f in [many.submit(convolution_limit) for _ in range(cores)]))
            turns.append(turn)
    del turns[0], limits[0]  # warm-up
    medians = {side: statistics.median(turn[side] for turn in turns) for side in turns[0]}
    for side in others:
        name, target = ("plain loop", f">= {TARGETS[width]:g}") if side == plain else (side, "")
        ratio = statistics.median(turn["ours"] / turn[side] for turn in turns)
        yield Line(
            f"training, width {width}", "images/s", medians["ours"], name, medians[side], ratio, target
        )
    scaling = statistics.median(turn["ours"] / turn["one"] for turn in turns)
    yield Line(
        f"training, width {width}, all cores",
        "images/s",
        medians["ours"],
        "one core",
        medians["one"],
        scaling,
        f">= {0.85 * cores:g}",
    )
    work, limit = gflop_an_image(plain, width), statistics.median(limits)
    achieved = medians["ours"] * work
    yield Line(
        f"arithmetic, width {width}",
        "GFLOP/s",
        achieved,
        "convolution limit",
        limit,
        achieved / limit,
        f">= {SHARE:g}",
    )


def on_gpu(repeats: int):
    for name, attention_at, unit, target in (
        ("cifar10", 16, "steps/s", 100),
        ("tiny-imagenet", 32, "images/s", 2000),
        ("imagenet", 32, "images/s", 1500),
    ):
        preset, rates = PRESETS[name], {}
        for graphed in (False, True):
            step, turns = our_step(preset, attention_at, graphed=graphed), []
            for _ in range(repeats + 1):
                torch.cuda.synchronize()
                start = time.perf_counter()
                for _ in range(STEPS):
                    step()
                torch.cuda.synchronize()
                turns.append(STEPS / (time.perf_counter() - start))
            rates[graphed] = statistics.median(turns[1:]) * (1 if unit == "steps/s" else preset.batch_size)
            del step
            torch.cuda.empty_cache()
        rate = rates[True]
        yield Line(f"training, {name}, one run", unit, rate, "goal", target, rate / target, ">= 1")
        yield Line(
            f"training, {name}, as a CUDA graph",
            unit,
            rate,
            "as it stands",
            rates[False],
            rate / rates[False],
        )


def measure(repeats: int, peers: list[str]):
    for width in TARGETS:
        yield from on_cpu(width, repeats, peers)
    yield from operations()
    yield from in_parts(repeats)
    if torch.cuda.is_available():
        yield from on_gpu(repeats)
