"""Our scoring against clean-fid's own, on the same images, machine and threads, both sides in turns.

    python benchmarks/scoring_speed.py [--images 1000] [--repeats 5]

End to end: 32-pixel images to a Fréchet distance, with a light extractor of 2048 features, so that the resize to 299 pixels
dominates as it does on a GPU. Theirs is `get_model_features` and `frechet_distance` of clean-fid 0.1.35. Then the
distance alone, at 2048 features. Prints medians, ratios, and how far the values are apart.
"""

import argparse
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F
from cleanfid import fid

from repro import evaluate, features, metrics

THREADS = 2


class Light(torch.nn.Module):
    """2048 features of a 299-pixel image: a random projection of its 16x16 thumbnail."""

    def __init__(self):
        super().__init__()
        self.projection = torch.nn.Parameter(torch.randn(768, 2048, generator=torch.Generator().manual_seed(0)) / 255)

    @torch.inference_mode()
    def of_resized(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(F.adaptive_avg_pool2d(x, 16).flatten(1) @ self.projection)

    def forward(self, images: torch.Tensor):
        """As repro.features: uint8 (B, 3, H, W) to features and class probabilities."""
        return {"": self.of_resized(features.resize(images, 299))}, torch.full((len(images), 2), 0.5)


def theirs(light: Light, images: np.ndarray, reference: metrics.Statistics) -> float:
    batches = iter(torch.from_numpy(images).permute(0, 3, 1, 2).split(evaluate.BATCH))
    found = fid.get_model_features(
        lambda z: next(batches), light.of_resized, mode="clean", num_gen=len(images), batch_size=evaluate.BATCH,
        device=torch.device("cpu"), verbose=False,
    ).astype(np.float64)
    return fid.frechet_distance(found.mean(0), np.cov(found, rowvar=False), reference.mean, reference.covariance)


def ours(light: Light, images: np.ndarray, reference: metrics.Statistics) -> float:
    return metrics.frechet_distance(reference, evaluate.extract(light, images).statistics[""])


def timed(call, *arguments) -> tuple[float, float]:
    start = time.perf_counter()
    return call(*arguments), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    rng, light = np.random.default_rng(0), Light()
    images, real = (rng.integers(low, 256, (options.images, 32, 32, 3), dtype=np.uint8) for low in (0, 60))
    reference = evaluate.extract(light, real).statistics[""]
    mixing = rng.normal(size=(2048, 2048)) / 45
    a, b = (metrics.Statistics.of(rng.normal(size=(5000, 2048)) @ mixing + shift) for shift in (0, 0.1))

    def their_distance() -> float:
        return fid.frechet_distance(a.mean, a.covariance, b.mean, b.covariance)

    def our_distance() -> float:
        fresh = metrics.Statistics(a.mean, a.covariance, a.count)  # without the root kept from the last time
        return metrics.frechet_distance(fresh, b)

    for name, one, other in (
        (f"{options.images} images, end to end", lambda: theirs(light, images, reference), lambda: ours(light, images, reference)),
        ("Fréchet distance of 2048 features", their_distance, our_distance),
    ):
        sides = [(timed(one), timed(other)) for _ in range(options.repeats)]
        (their_value, our_value), = {(t[0], o[0]) for t, o in sides[:1]}
        their_seconds, our_seconds = (statistics.median(side[i][1] for side in sides) for i in (0, 1))
        ratio = statistics.median(t[1] / o[1] for t, o in sides)
        print(f"{name}: clean-fid {their_seconds:.2f} s, ours {our_seconds:.2f} s, {ratio:.1f} times faster;"
              f" values {their_value:.8g} and {our_value:.8g}, relative difference {abs(our_value / their_value - 1):.1e}", flush=True)


if __name__ == "__main__":
    main()
