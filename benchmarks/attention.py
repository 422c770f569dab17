"""A training pass of the attention block at 64x64 (feat64 at 128 px, width 64), in linear memory and with the
map held.
"""

import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from repro.checks.bench import Line
from repro.networks.layers import SelfAttention
from repro.recipes import Recipe
from repro.training import updates

CHANNELS, SIZE, BATCH, PASSES = 128, 64, 8, 3


def cost(fused_from: int, precision: str) -> tuple[float, float]:
    """Seconds of a pass, and MiB of memory at its peak above what the process held before. In a process of
    its own.
    """
    torch.set_num_threads(1)
    SelfAttention.FUSED_FROM = fused_from
    block = SelfAttention(CHANNELS, Recipe(), sn=True).to(memory_format=torch.channels_last)
    x = (
        torch.randn(BATCH, CHANNELS, SIZE, SIZE)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
    )
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
    before, times = mebibytes("VmRSS"), []
    for _ in range(PASSES):
        start = time.perf_counter()
        with updates.arithmetic("cpu", precision):
            loss = block(x).float().square().mean()
        loss.backward()
        times.append(time.perf_counter() - start)
    return min(times), mebibytes("VmHWM") - before


def mebibytes(field: str) -> float:
    """Of this process, as the kernel counts them: resident now (VmRSS), or at the peak (VmHWM)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def measure(repeats: int, peers: list[str]):
    spawn = multiprocessing.get_context("spawn")
    for precision in ("fp32", "bf16") if updates.native_precision("bf16") == "bf16" else ("fp32",):
        turns = []
        for _ in range(repeats):
            with ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as alone:
                turns.append(
                    [alone.submit(cost, fused_from, precision).result() for fused_from in (1, 10**9)]
                )
        for k, (what, unit, target) in enumerate((("time", "s", ">= 1"), ("peak memory", "MiB", ">= 2"))):
            ours, other = (statistics.median(turn[side][k] for turn in turns) for side in (0, 1))
            ratio = statistics.median(turn[1][k] / turn[0][k] for turn in turns)
            yield Line(
                f"attention at {SIZE}x{SIZE}, {precision}, {what}",
                unit,
                ours,
                "with the map held",
                other,
                ratio,
                target,
            )
