"""Training speed of the whole machine as the study runs it, against the plain loop that people start from.

    python benchmarks/training_speed.py [--width 16] [--repeats 5]

Plain: one process with PyTorch's default threads, float32, NCHW, PyTorch's own spectral norm, real and generated images through
D in separate passes. Ours: as many single-thread processes as the machine has cores, each the loop of repro/train.py. Both
train the 32 px network with attention at 16, batch 64, on random images; the two sides take turns, and medians are printed.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from repro import losses, models, train
from repro.config import PRESETS, Config, Recipe

BATCH, STEPS, CLASSES = 64, 12, 10
_steps = {}  # side -> function of one step, kept by each process between its turns


def configuration(width: int) -> Config:
    preset = dataclasses.replace(PRESETS["cifar10-cpu"], channels=width)
    return Config(Recipe(), preset, attention_at=(16,), num_classes=CLASSES)


def plain(width: int):
    preset, recipe = configuration(width).preset, Recipe(sn_generator=False, sn_discriminator=False)
    g = models.Generator(32, width, CLASSES, recipe, preset.z_dim, attention_at=(16,))
    d = models.Discriminator(32, width, CLASSES, recipe, attention_at=(16,))
    for network in (g, d):
        models.initialise(network, recipe.init, 0)
        for module in list(network.modules()):
            if isinstance(module, (nn.Conv2d, nn.Linear)) or module is getattr(network, "embedding", None):
                spectral_norm(module)
    optimiser_g = torch.optim.Adam(g.parameters(), 1e-4, betas=(0.0, 0.999))
    optimiser_d = torch.optim.Adam(d.parameters(), 4e-4, betas=(0.0, 0.999))
    real, labels = torch.rand(BATCH, 3, 32, 32) * 2 - 1, torch.randint(CLASSES, (BATCH,))

    def step(i: int) -> None:
        fake = g(torch.randn(BATCH, preset.z_dim), labels).detach()
        loss = losses.hinge_d(d(real, labels)[0], d(fake, labels)[0])
        optimiser_d.zero_grad()
        loss.backward()
        optimiser_d.step()
        loss = losses.hinge_g(d(g(torch.randn(BATCH, preset.z_dim), labels), labels)[0])
        optimiser_g.zero_grad()
        loss.backward()
        optimiser_g.step()

    return step


def ours(width: int):
    torch.set_num_threads(1)
    config = configuration(width)
    g, d = models.build(config)
    optimiser_g, optimiser_d = train.make_optimisers(config, g, d)
    precision = train.native_precision(config.preset.precision)
    images = torch.randint(0, 256, (BATCH, 32, 32, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    labels = torch.randint(CLASSES, (BATCH,))

    def step(i: int) -> None:
        train.update_d(config, g, d, optimiser_d, images, labels, i, precision)
        train.update_g(config, g, d, optimiser_g, i, precision)

    return step


def images_per_second(side: str, width: int) -> float:
    """Of this process, over STEPS steps; the first call builds the networks and warms up."""
    if side not in _steps:
        _steps[side] = {"plain": plain, "ours": ours}[side](width)
        for i in range(3):
            _steps[side](i)
    start = time.perf_counter()
    for i in range(STEPS):
        _steps[side](i)
    return STEPS * BATCH / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as one, ProcessPoolExecutor(cores, spawn) as many:
        turns = []
        for repeat in range(arguments.repeats + 1):
            base = one.submit(images_per_second, "plain", arguments.width).result()
            sides = [many.submit(images_per_second, "ours", arguments.width) for _ in range(cores)]
            if repeat:  # the first turn warms up
                turns.append((base, sum(s.result() for s in sides)))
            else:
                [s.result() for s in sides]
    base, fast = (statistics.median(t[k] for t in turns) for k in (0, 1))
    ratio = statistics.median(b / a for a, b in turns)
    print(f"width {arguments.width}, {cores} cores, medians of {arguments.repeats}: plain {base:.0f} images/s in one process,"
          f" ours {fast:.0f} images/s in {cores} single-thread processes, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
