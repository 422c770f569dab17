"""Our scoring against clean-fid's own, on the same images, machine and threads, both sides in turns.

End to end: 32-pixel images to a Fréchet distance, with a light extractor of 2048 features, so that the resize
to 299 pixels dominates as it does on a GPU. Theirs is `get_model_features` and `frechet_distance` of
clean-fid 0.1.35. Then the distance alone, KID, precision and recall against torch-fidelity's, and what a
score costs beside the training it belongs to.
"""

import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F
from cleanfid import fid
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from repro.checks.bench import Line, benchmark
from repro.config import Config
from repro.networks import resnet
from repro.presets import PRESETS
from repro.recipes import Recipe
from repro.scoring import extraction, features, metrics, pairs, sampling
from repro.scoring.features import load_extractor
from repro.training import updates

THREADS, IMAGES = 2, 1000


class Light(torch.nn.Module):
    """2048 features of a 299-pixel image: a random projection of its 16x16 thumbnail."""

    def __init__(self):
        super().__init__()
        self.projection = torch.nn.Parameter(
            torch.randn(768, 2048, generator=torch.Generator().manual_seed(0)) / 255
        )

    @torch.inference_mode()
    def of_resized(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(F.adaptive_avg_pool2d(x, 16).flatten(1) @ self.projection)

    def forward(self, images: torch.Tensor):
        """As repro.scoring.features: uint8 (B, 3, H, W) to features and class probabilities."""
        return {"": self.of_resized(features.resize(images, 299))}, torch.full((len(images), 2), 0.5)


def theirs(light: Light, images: np.ndarray, reference: metrics.Statistics) -> float:
    batches = iter(torch.from_numpy(images).permute(0, 3, 1, 2).split(sampling.BATCH))
    found = fid.get_model_features(
        lambda z: next(batches),
        light.of_resized,
        mode="clean",
        num_gen=len(images),
        batch_size=sampling.BATCH,
        device=torch.device("cpu"),
        verbose=False,
    ).astype(np.float64)
    return fid.frechet_distance(
        found.mean(0), np.cov(found, rowvar=False), reference.mean, reference.covariance
    )


def ours(light: Light, images: np.ndarray, reference: metrics.Statistics) -> float:
    return metrics.frechet_distance(reference, extraction.extract(light, images).statistics[""])


def timed(call, *arguments) -> tuple[float, float]:
    start = time.perf_counter()
    return call(*arguments), time.perf_counter() - start


def sides(repeats: int, one, other) -> tuple[list[float], list[float], float]:
    """Seconds of both in turns, and the relative difference of their values."""
    turns = [(timed(one), timed(other)) for _ in range(repeats)]
    (theirs, _), (ours, _) = turns[0]
    return [t for (_, t), _ in turns], [t for _, (_, t) in turns], float(abs(ours / theirs - 1))


def against_clean_fid(repeats: int):
    rng, light = np.random.default_rng(0), Light()
    images, real = (rng.integers(low, 256, (IMAGES, 32, 32, 3), dtype=np.uint8) for low in (0, 60))
    reference = extraction.extract(light, real).statistics[""]
    mixing = rng.normal(size=(2048, 2048)) / 45
    a, b = (metrics.Statistics.of(rng.normal(size=(5000, 2048)) @ mixing + shift) for shift in (0, 0.1))

    def their_distance() -> float:
        return fid.frechet_distance(a.mean, a.covariance, b.mean, b.covariance)

    def our_distance() -> float:
        fresh = metrics.Statistics(a.mean, a.covariance, a.count)  # without the root kept from the last time
        return metrics.frechet_distance(fresh, b)

    for what, one, other, target in (
        (
            f"{IMAGES:,} images to a distance",
            lambda: theirs(light, images, reference),
            lambda: ours(light, images, reference),
            3,
        ),
        ("Fréchet distance, 2048 features", their_distance, our_distance, 8),
    ):
        their_seconds, our_seconds, difference = sides(repeats, one, other)
        ratio = statistics.median(t / o for t, o in zip(their_seconds, our_seconds, strict=True))
        medians = statistics.median(our_seconds), statistics.median(their_seconds)
        yield Line(what, "s", medians[0], "clean-fid", medians[1], ratio, f">= {target}")
        yield Line("its value: relative difference", "", difference, target="< 1e-6")


def against_torch_fidelity(repeats: int):
    """Of a score with a known reference, what compares image with image."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(2048, 2048)).astype(np.float32) / 45
    real, generated = (
        np.maximum(rng.normal(size=(metrics.KEPT, 2048)).astype(np.float32) @ mixing + shift, 0)
        for shift in (0, 0.03)
    )
    tensors, known = [torch.from_numpy(x) for x in (generated, real)], pairs.within(real, radii=True)

    def their_scores() -> float:
        kid = kid_features_to_metric(*tensors, kid_subsets=1, kid_subset_size=metrics.KEPT, verbose=False)
        return kid["kernel_inception_distance_mean"] + sum(
            prc_features_to_metric(*tensors, verbose=False).values()
        )

    def our_scores() -> float:
        found = pairs.scores(real, generated, known, extended=True)
        both = found["precision"], found["recall"]
        return found["kid"] + sum(both) + 2 * both[0] * both[1] / sum(both)  # theirs have an F score too

    their_seconds, our_seconds, difference = sides(repeats, their_scores, our_scores)
    ratio = statistics.median(t / o for t, o in zip(their_seconds, our_seconds, strict=True))
    what = f"KID, precision and recall of {metrics.KEPT:,} images"
    medians = statistics.median(our_seconds), statistics.median(their_seconds)
    yield Line(what, "s", medians[0], "torch-fidelity", medians[1], ratio, ">= 3")
    yield Line("their sum: relative difference", "", difference, target="< 1e-6")


def share_of_a_run(repeats: int):
    """A score's share of the run it belongs to, on one thread as both are there."""
    torch.set_num_threads(1)
    preset = PRESETS["cifar10-cpu"]
    config = Config(Recipe(), preset, attention_at=(16,), num_classes=10)
    generator, extractor = resnet.build(config)[0], load_extractor(preset.extractor)
    step = benchmark("training").our_step(preset, 16)
    part = 500
    scoring, training = [], []
    for _ in range(repeats):
        images, seconds = timed(
            lambda: sampling.sample(generator, config, part, updates.native_precision(preset.precision))[0]
        )
        scoring.append((seconds + timed(extraction.extract, extractor, images)[1]) * preset.samples / part)
        training.append(timed(lambda: [step() for _ in range(10)])[1] * preset.steps / 10)
    share = statistics.median(s / t for s, t in zip(scoring, training, strict=True))
    yield Line(f"{preset.samples:,}-sample score, share of a run", "", share, target="< 0.1")


def measure(repeats: int, peers: list[str]):
    torch.set_num_threads(THREADS)
    yield from against_clean_fid(repeats)
    yield from against_torch_fidelity(repeats)
    yield from share_of_a_run(repeats)
