"""What only a GPU can show: every row at every preset, the same numbers as a CPU, CUDA graphs, resume.

`make gpu` runs these; without a GPU they take the smallest preset, so that the tests themselves are tried.
"""

import copy

import numpy as np
import pytest
import torch

from repro import paper, parallel, runs
from repro.config import Config
from repro.data.images import Batches, ImageData, with_data
from repro.errors import ReproError, SizeNotAvailable
from repro.execution import Execution
from repro.networks import resnet
from repro.presets import PRESETS
from repro.scoring import metrics, pairs
from repro.studies.study import configure, rows, run_name
from repro.training import draws, graphs, loop, updates
from tests.training.helpers import steady

pytestmark = pytest.mark.gpu
DEVICE = parallel.device()
SHAPES = ("rehearsal", "cifar10", "tiny-imagenet", "imagenet") if DEVICE == "cuda" else ("rehearsal",)
CLASSES = {"imagenet": 1000, "tiny-imagenet": 200}
on_gpu = pytest.mark.skipif(DEVICE != "cuda", reason="this machine has no GPU")


def cases():
    """Each row once a preset; the recipes at 32 px alone."""
    for name in SHAPES:
        for table in ("table1", "table2", "figure3", *(("recipes",) if name != "imagenet" else ())):
            for row in paper.ALL_TABLES[table].rows:
                try:
                    if run_name(row, PRESETS[name]) == row.name and (
                        name != "tiny-imagenet" or table != "recipes"
                    ):
                        yield name, row.name
                except SizeNotAvailable:
                    continue


def random_data(preset, classes=10):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2 * preset.batch_size, preset.resolution, preset.resolution, 3), np.uint8)
    labels = np.arange(len(images)) % classes
    return ImageData("random", images, labels, tuple(map(str, range(classes))), "random")


def config_of(name, row, **changes):
    preset = PRESETS[name]
    return Config(**vars(configure(rows()[row], preset)) | {"num_classes": CLASSES.get(name, 10)} | changes)


class Trainee:
    """Networks and optimisers of a configuration, and its updates on random images."""

    def __init__(self, config, device, graphed=False):
        self.config, self.device = config, device
        updates.set_up_gpu()
        self.precision = updates.native_precision(config.preset.precision)
        self.g, self.d = (network.to(device) for network in resnet.build(config))
        self.optimisers = updates.make_optimisers(config, self.g, self.d, graphed)
        self.batches = Batches(random_data(config.preset), config.preset.batch_size, 0, False)
        self.step = graphs.GraphedUpdates(self.update, self.g, self.d) if graphed else self.update

    def update(self, *drawn):
        *of_d, of_g = drawn
        for x in of_d:
            loss_d, *_ = updates.update_d(self.config, self.g, self.d, self.optimisers[1], self.precision, *x)
        return loss_d, updates.update_g(
            self.config, self.g, self.d, self.optimisers[0], *of_g, self.precision
        )

    def train(self, steps):
        losses = []
        for step in range(steps):
            drawn = draws.draws(self.config, self.batches, step)
            on_device = [tuple(t.to(self.device) for t in update) for update in drawn]
            losses.append([float(loss) for loss in self.step(*on_device)])
        return torch.tensor(losses)

    def weights(self):
        return torch.cat(
            [v.flatten().double().cpu() for n in (self.g, self.d) for v in n.state_dict().values()]
        )


@pytest.fixture
def deterministic():
    """Kernels without atomic additions, as far as PyTorch has them."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@on_gpu
@pytest.mark.parametrize("row", ["none", "attention_16", "residual_16", "sngan_projection", "acgan"])
def test_a_gpu_computes_what_a_cpu_does(row):
    """In fp32 without TF32, over three steps from the same weights."""
    config = config_of("rehearsal", row)
    here, there = Trainee(config, "cpu"), Trainee(config, "cuda")
    assert torch.equal(here.weights(), there.weights())
    torch.testing.assert_close(there.train(3), here.train(3), rtol=2e-3, atol=2e-3)


@on_gpu
@pytest.mark.parametrize("row", ["none", "attention_16", "residual_16", "sngan_projection", "acgan"])
def test_cuda_graphs_compute_the_same_bits(row, deterministic):
    config = config_of("cifar10", row)
    plain, graphed = Trainee(config, "cuda"), Trainee(config, "cuda", graphed=True)
    assert torch.equal(plain.train(8), graphed.train(8))
    assert torch.equal(plain.weights(), graphed.weights())


@on_gpu
def test_without_determinism_two_runs_differ_in_their_last_digits_only():
    config = config_of("cifar10", "attention_16")
    one, other = Trainee(config, "cuda"), Trainee(config, "cuda")
    torch.testing.assert_close(one.train(5), other.train(5), rtol=2e-2, atol=2e-2)
    difference = (one.weights() - other.weights()).abs().max().item()
    print(f"largest difference of a weight after five steps: {difference:.3g}")


@pytest.mark.parametrize("graphed", [False, pytest.param(True, marks=on_gpu)])
def test_a_run_stopped_on_this_device_goes_on_as_if_it_had_not_been(
    graphed, deterministic, tmp_path, make_config, shapes_data, light_scores, monkeypatch
):
    config = with_data(make_config("attention_16", steps=8, score_every=4), shapes_data)
    train = lambda folder: loop.train(
        config, shapes_data, runs.Run(folder), "attention_16", execution=Execution(graphed=graphed)
    )
    straight = train(tmp_path / "straight")
    asked, original = [], loop.Training._step

    def stop_after_five(self, *drawn):
        asked.append(1)
        if len(asked) == 5:
            self.stop.hear()
        return original(self, *drawn)

    monkeypatch.setattr(loop.Training, "_step", stop_after_five)
    with pytest.raises(runs.Interrupted, match="step 5 of 8"):
        train(tmp_path / "stopped")
    monkeypatch.setattr(loop.Training, "_step", original)
    assert steady(train(tmp_path / "stopped")) == steady(straight)


def test_distances_on_this_device_are_those_of_a_cpu():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(256, 256)) / 16
    a, b = (rng.normal(size=(2000, 256)).astype(np.float32) @ mixing + shift for shift in (0.0, 0.1))
    here, there = (
        [
            metrics.frechet_distance(metrics.Statistics.of(a, device), metrics.Statistics.of(b, device)),
            *pairs.scores(a, b, device=device, extended=True).values(),
        ]
        for device in ("cpu", DEVICE)
    )
    assert there == pytest.approx(here, rel=1e-5)


@on_gpu
def test_a_cuda_graph_of_a_run_on_a_cpu_or_with_compile_is_refused():
    with pytest.raises(ReproError, match="leave the option out"):
        loop.Training(
            config_of("rehearsal", "none"), None, None, "none", None, Execution(compiled=True, graphed=True)
        )


@pytest.mark.parametrize("name, row", [*cases()])
def test_a_step_of_every_row_at_every_presets_shapes(name, row, monkeypatch):
    trainee = Trainee(config_of(name, row), DEVICE)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)  # one step repays no search
    before = copy.deepcopy(trainee.weights())
    try:
        assert torch.isfinite(trainee.train(1)).all()
    finally:
        torch.cuda.empty_cache()
    after = trainee.weights()
    assert torch.isfinite(after).all() and not torch.equal(before, after)
