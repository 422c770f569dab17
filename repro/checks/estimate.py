"""What a whole study takes, from a few steps of each row measured on this machine."""

from __future__ import annotations

import dataclasses
import logging
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from .. import paper, parallel
from ..config import Config
from ..data.images import Batches, ImageData
from ..data.loading import SHAPES_COUNT
from ..errors import ReproError
from ..networks import resnet
from ..presets import Preset
from ..scoring import metrics, pairs, sampling
from ..scoring.extraction import extract
from ..scoring.features import load_extractor
from ..studies.study import Study, configure, rows
from ..training import averages, draws, loop, updates

log = logging.getLogger(__name__)

IMAGES = {
    "symmetric_shapes": SHAPES_COUNT,
    "cifar10": 50_000,
    "tiny-imagenet": 100_000,
    "imagenet": 1_281_167,
    "structure-texture-64": 5_000,
    "celeba": 202_599,
    "lsun-church": 126_227,
}  # of the training splits
CLASSES = dict.fromkeys(IMAGES, 10) | {"tiny-imagenet": 200, "imagenet": 1000, "celeba": 1, "lsun-church": 1}
# images x pixels x width of a step measured on a CPU: a whole one of 256 images at 128 px takes minutes
CPU_WORK = 64 * 32**2 * 16
FEATURES = 1000  # random ones, on which distances are measured
STEPS = 3  # timed, after one that warms up
MOST_DEVICES = 4  # that share a run: the released code's number
DISK = 1.0  # GB/s that a run writes to shared storage, assumed
CHECKPOINTS = 3  # files a run keeps: the newest, the one before, the best


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one row: seconds of an update of each network, of generating an image, and bytes of a checkpoint."""

    update_d: float
    update_g: float
    image: float
    checkpoint: int


def _seconds(call: Callable, device: str) -> float:
    """Median of STEPS calls after a first one."""
    times = []
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def measured_batch(preset: Preset, device: str) -> int:
    """The preset's batch on a GPU; on a CPU as much of it as CPU_WORK allows, at least 2."""
    if device == "cuda":
        return preset.batch_size
    return max(2, min(preset.batch_size, CPU_WORK // (preset.resolution**2 * preset.channels)))


def measure(config: Config, device: str) -> Cost:
    """Run a few updates of a configuration on random images, and scale them to the preset's batch."""
    preset = config.preset
    batch = measured_batch(preset, device)
    small = dataclasses.replace(
        config, preset=dataclasses.replace(preset, batch_size=batch), num_classes=CLASSES[preset.dataset]
    )
    rng = np.random.default_rng(0)
    shape = (batch, preset.resolution, preset.resolution, 3)
    data = ImageData(
        "random",
        rng.integers(0, 256, shape, dtype=np.uint8),
        rng.integers(2, size=batch),
        ("0", "1"),
        "random",
    )
    g, d = (network.to(device) for network in resnet.build(small))
    optimiser_g, optimiser_d = updates.make_optimisers(small, g, d)
    precision = updates.native_precision(preset.precision)
    of_d, *_, of_g = next(draws.prefetched(small, Batches(data, batch, 0, False), 0, device))
    scale = preset.batch_size / batch
    update_d = scale * _seconds(lambda: updates.update_d(small, g, d, optimiser_d, precision, *of_d), device)
    update_g = scale * _seconds(lambda: updates.update_g(small, g, d, optimiser_g, *of_g, precision), device)
    image = _seconds(lambda: sampling.sample(g, small, batch, precision, device), device) / batch
    modules = (g, d, optimiser_g, optimiser_d, *filter(None, averages.make_averages(small, g)))
    states = [t for module in modules for t in _tensors(module.state_dict())]
    return Cost(update_d, update_g, image, sum(t.numel() * t.element_size() for t in states))


def _tensors(state) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    return [t for value in state.values() for t in _tensors(value)] if isinstance(state, dict) else []


def extraction(preset: Preset, device: str) -> float | None:
    """Seconds in which the extractor passes one generated image; None where its weights are not here."""
    try:
        extractor = load_extractor(preset.extractor).to(device)
    except ReproError as error:
        log.warning("%s", error)
        return None
    images = np.random.default_rng(0).integers(
        0, 256, (sampling.BATCH // 5, preset.resolution, preset.resolution, 3), dtype=np.uint8
    )
    return _seconds(lambda: extract(extractor, images), device) / len(images)


def distances(preset: Preset, device: str) -> float:
    """Seconds of the distances of one score, references at hand: FID, KID, by class, and precision and recall
    where the extractor's scores have them. Measured on random features, fewer than a score has.
    """
    extended = preset.extractor == "inception"
    width, resizers = (2048, 2) if extended else (1280, 1)
    count = min(preset.samples, FEATURES)
    x = np.random.default_rng(0).standard_normal((count, width), np.float32)
    statistics_of = metrics.Statistics.of(x, device)
    frechet = _seconds(lambda: metrics.frechet_distance(statistics_of, statistics_of), device)
    compared = (min(preset.samples, metrics.KEPT) / count) ** 2  # image with image
    of_real = pairs.within(x, device, extended)
    by_pairs = lambda extended: _seconds(lambda: pairs.scores(x, x, of_real, device, extended), device)
    seconds = resizers * frechet + compared * sum(by_pairs(extended and i == 0) for i in range(resizers))
    if preset.samples // CLASSES[preset.dataset] >= metrics.MINIMUM_PER_CLASS:
        seconds += CLASSES[preset.dataset] * frechet
    return seconds


def measure_rows(study: Study, device: str) -> dict[str, Cost]:
    """The cost of each row of the study. Raises ReproError for data without classes."""
    if CLASSES[study.preset.dataset] == 1:
        raise ReproError(
            f"The images of {study.preset.name} have no classes, so the rows of the tables cannot be trained"
            " on them, only recipe_heykeetae: choose another preset."
        )
    if device == "cpu":
        torch.set_num_threads(study.preset.threads)
    costs = {}
    for task in study.tasks(study.preset.tables):
        if task.row not in costs:
            costs[task.row] = measure(task.config, device)
            log.info(
                "%s: %.3g s a step of %d images",
                task.row,
                _step(costs[task.row], task.config),
                study.preset.batch_size,
            )
    return costs


def scaling(
    preset: Preset, devices: list[int], images_per_second: float, seeds: int | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """What training a whole study takes on clusters of so many GPUs, and what it asks of storage and driver;
    the assumptions in words.

    images_per_second: of one GPU on the row without a block; the other rows' costs relative to it are
    measured here. Where there are more GPUs than runs, each run has up to MOST_DEVICES of them.
    """
    from ..studies.cluster import REPORT_SECONDS

    device = parallel.device()
    study = Study(preset.name, seeds or preset.seeds, executor="none")
    costs, tasks = measure_rows(study, device), study.tasks(study.preset.tables)
    plain = costs.get("none") or measure(configure(rows()["none"], preset), device)
    unit = preset.batch_size / images_per_second / (plain.update_d + plain.update_g)
    hours = [preset.steps * unit * _step(costs[t.row], t.config) / 3600 for t in tasks]
    state = statistics.mean(costs[t.row].checkpoint for t in tasks) / 1e9

    def line(count: int) -> dict:
        each = min(max(1, count // len(tasks)), MOST_DEVICES)
        at_once = min(count // each, len(tasks))
        wall = max(sum(hours) / (at_once * each), max(hours) / each)
        writing = max(loop.CHECKPOINT_SECONDS, state / DISK / loop.CHECKPOINT_SHARE)
        return {
            "GPUs": f"{count:,}",
            "runs at once": at_once,
            "GPUs a run": each,
            "hours": f"{wall:,.0f}",
            "days": f"{wall / 24:,.1f}",
            "GPUs idle": f"{1 - sum(hours) / (wall * count):.0%}",
            "images read, MB/s": (
                f"{at_once * each * images_per_second * preset.resolution**2 * 3 / 1e6:,.0f}"
            ),
            "checkpoints written, MB/s": f"{1000 * at_once * state / writing:,.0f}",
            "messages to the driver a second": f"{at_once / REPORT_SECONDS:,.1f}",
        }

    words = [
        (
            f"{len(tasks)} runs ({len(costs)} distinct rows, {study.seeds} seeds) of {preset.steps:,} steps"
            f" of {preset.batch_size}: {sum(hours):,.0f} GPU-hours of training; scoring is not in it."
        ),
        (
            f"One GPU trains the row without a block at {images_per_second:,.0f} images a second"
            " (--images-per-second, not measured here); the rows' costs beside that row's were measured on"
            f" {torch.cuda.get_device_name() if device == 'cuda' else 'this processor'}. Several GPUs on one"
            " run are taken as that many times faster."
        ),
        (
            f"A checkpoint has {state:.2f} GB and is written at {DISK:g} GB/s, at most"
            f" {loop.CHECKPOINT_SHARE:.0%} of the time and once a minute; no more than {MOST_DEVICES} GPUs"
            " share a run."
        ),
    ]
    return pd.DataFrame(map(line, devices)), words


def estimate(preset: Preset, devices: int, seeds: int | None = None) -> tuple[pd.DataFrame, list[str]]:
    """A line per table and one for the study (rows that tables share counted once), and the assumptions in
    words.
    """
    device = parallel.device()
    study = Study(preset.name, seeds or preset.seeds, executor="none")
    costs = measure_rows(study, device)
    of_an_image, of_distances = extraction(preset, device), distances(preset, device)
    # those on the way, and of the last step the averaged weights and further samples
    scores = sum(map(preset.is_scored, {*range(0, preset.steps, preset.score_every), preset.steps}))
    scores += 1 + preset.resamples

    def line(name: str, tables: list[str]) -> dict:
        tasks = study.tasks(tables)
        training = [preset.steps * _step(costs[t.row], t.config) / 3600 for t in tasks]
        scoring = [
            scores * (preset.samples * (costs[t.row].image + (of_an_image or 0.0)) + of_distances) / 3600
            for t in tasks
        ]
        runs = [a + b for a, b in zip(training, scoring, strict=True)]
        wall = max(sum(runs) / devices, max(runs))
        disk = sum(CHECKPOINTS * costs[t.row].checkpoint for t in tasks) / 1e9
        return {
            "": name,
            "runs": len(tasks),
            "hours": f"{wall:,.1f}",
            "device-hours": f"{sum(runs):,.1f}",
            "of it training": f"{sum(training):,.1f}",
            "scoring": f"{sum(scoring):,.1f}",
            "longest run, hours": f"{max(runs):,.1f}",
            "checkpoints, GB": f"{disk:,.2f}",
        }

    frame = pd.DataFrame(
        [line(paper.ALL_TABLES[name].title.split(":")[0], [name]) for name in preset.tables]
        + [line("whole study", list(preset.tables))]
    )
    return frame, _assumptions(preset, device, devices, costs, of_an_image, of_distances, study.seeds)


def _step(cost: Cost, config: Config) -> float:
    return config.recipe.d_steps * cost.update_d + cost.update_g


def _assumptions(
    preset: Preset,
    device: str,
    devices: int,
    costs: dict[str, Cost],
    of_an_image: float | None,
    of_distances: float,
    seeds: int,
) -> list[str]:
    name = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"{preset.threads} thread(s) of this processor ({os.cpu_count()} cores)"
    )
    out = [
        f"A device is {name}, one run on each at a time; {devices} of them, {seeds} seed(s) a row; nothing"
        " shares a row's work."
    ]
    if device == "cpu":
        if measured_batch(preset, device) < preset.batch_size:
            out.append(
                f"A step was measured at {measured_batch(preset, device)} images: its time is taken as linear"
                f" in the batch of {preset.batch_size}."
            )
        out.append("Nothing here says how fast a GPU is: run this command on one.")
    out.append(
        f"Training grows linearly in steps ({preset.steps:,}), rows and seeds. Hours on many devices cannot"
        " fall below the longest run."
    )
    if {"attention_8", "attention_64"} <= costs.keys():
        low, high = (costs[row].update_d + costs[row].update_g for row in ("attention_8", "attention_64"))
        out.append(
            "Not linear: attention's arithmetic grows with the square of the positions; a step with it at 64"
            f" takes {high / low:.2f} times one with it at 8."
        )
    start = f" from step {preset.score_from:,} on" if preset.score_from else ""
    again = f", {1 + preset.resamples} more at the end" if preset.resamples else ", one more at the end"
    scored = f"{preset.samples:,} samples every {preset.score_every:,} steps{start}{again}"
    if of_an_image is None:
        out.append(
            f"Scoring ({scored}) counts the generator and the distances: the weights of Inception could not"
            " be had, so its own time is NOT in these hours."
        )
    else:
        out.append(
            f"Scoring ({scored}): {1 / of_an_image:,.0f} images a second through {preset.extractor}, and"
            f" {of_distances:.1f} s for the distances of a score. The second extractor, at the end, is not"
            " counted."
        )
    data = IMAGES[preset.dataset] * preset.resolution**2 * 3 / 1e9
    out.append(
        f"Disk: {CHECKPOINTS} checkpoints a run (newest, the one before, best); the prepared images take"
        f" {data:,.2f} GB more, once a machine."
    )
    return out
