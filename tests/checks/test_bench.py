"""Speed does not change the method; and the commands that measure it."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils import parametrizations, parametrize

from repro import cli
from repro.checks import bench, estimate
from repro.checks.bench import Line
from repro.data import loading
from repro.data.images import Batches
from repro.networks import resnet
from repro.presets import PRESETS
from repro.studies import study
from repro.training import draws, updates


def test_the_loop_is_the_plain_loop(make_config, shapes_data, monkeypatch):
    """Twenty steps in float64 from equal weights and draws: fused and channels-last here, written out in
    benchmarks/plain_loop.py.

    The plain loop gets the released code's power iteration: v, then u, once an update (PyTorch's runs u, then
    v, once a pass), and ours takes its vectors as constants, as PyTorch's does.
    """
    plain = bench.benchmark("plain_loop")

    @torch.no_grad()
    def power_iteration(self, weight, _):
        self._v.copy_(F.normalize(weight.T @ self._u, dim=0, eps=self.eps))
        self._u.copy_(F.normalize(weight @ self._v, dim=0, eps=self.eps))

    monkeypatch.setattr(parametrizations._SpectralNorm, "_power_method", power_iteration)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    config = make_config("attention_16", batch_size=16, learning_rate_scale=1.0, sn_through_iteration=False)
    g, d = resnet.build(config)
    theirs = plain.Loop(config.preset.channels, config.lr_g, config.lr_d)
    for network, other in ((g, theirs.g), (d, theirs.d)):
        other.load_state_dict(
            {k.replace(".0.u", ".0._u").replace(".0.v", ".0._v"): v for k, v in network.state_dict().items()}
        )
        network.double(), other.double()
    optimiser_g, optimiser_d = updates.make_optimisers(config, g, d)
    batches = Batches(shapes_data, 16, 0, False)
    double = lambda update: [t.double() if t.is_floating_point() else t for t in update]
    for step in range(20):
        of_d, of_g = map(double, draws.draws(config, batches, step))
        loss_d, loss_g = (
            updates.update_d(config, g, d, optimiser_d, "fp32", *of_d)[0],
            updates.update_g(config, g, d, optimiser_g, *of_g, "fp32"),
        )
        with parametrize.cached():
            assert theirs.update_d(*of_d) == pytest.approx(loss_d.item(), abs=1e-11), step
        theirs.d.eval()
        with parametrize.cached():
            assert theirs.update_g(*of_g) == pytest.approx(loss_g.item(), abs=1e-11), step
        theirs.d.train()
    # attention took part
    assert all(abs(gamma) > 1e-4 for network in (g, d) for gamma in resnet.gammas(network).values())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux counts it")
def test_attention_at_64_needs_less_than_half_the_memory():
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    def peak(fused_from):  # in a process of its own; what else happens in one only adds, up to 60 MiB
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            return alone.submit(bench.benchmark("attention").cost, fused_from, "fp32").result()[1]

    held = min(peak(10**9) for _ in range(2))
    assert any(peak(1) < held / 2 for _ in range(6)), held  # the first that is low enough ends it


def test_lines_say_whether_a_target_is_reached(tmp_path):
    lines = [
        Line("a", "images/s", 300.0, "plain", 100.0, 3.0, ">= 3"),
        Line("b", "images/s", 299.0, "plain", 100.0, 2.99, ">= 3"),
        Line("c", "s", np.float64(0.6), target="< 0.7"),
        Line("d", "s", 0.7, target="< 0.7"),
        Line("e", "s", 0.7, "peer", 1.4, 2.0),
    ]
    assert [line.met for line in lines] == [True, False, True, False, None]
    assert bench.table(lines)["reached"].tolist() == ["met", "MISSED", "met", "MISSED", ""]
    bench.write(lines, 5, tmp_path / "bench.json")
    written = json.loads((tmp_path / "bench.json").read_text())
    assert [line["met"] for line in written["lines"]] == [True, False, True, False, None] and written[
        "cores"
    ] >= 1
    assert (
        "| a " in (tmp_path / "bench.md").read_text()
        and "medians of 5 turns" in (tmp_path / "bench.md").read_text()
    )


def test_bench_measures_peers_and_refuses_what_is_none(tmp_path, capsys):
    peer = tmp_path / "bench_peer.py"
    peer.write_text(
        "def build(width):\n    return lambda images, labels: images.float().mean() + labels.sum() + width\n"
    )
    step = bench.benchmark("training").peer_step(str(tmp_path), 8)  # a checkout
    assert step() > 8
    peer.write_text("x = 1\n")
    for words, said in (
        (["--only", "trainig"], "Did you mean 'training'"),
        (["--peer", str(tmp_path)], "has no function build(width)"),
        (["--peer", str(tmp_path / "none.py")], "cannot be loaded"),
    ):
        assert cli.run(["bench", *words, "--json", str(tmp_path / "bench.json")]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "bench.json").exists()


def test_the_step_that_is_timed_is_the_loops(shapes_data):
    """The benchmark's step trains: weights move, with each step's own draws."""
    training = bench.benchmark("training")
    seen = []
    original = updates.update_g
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            updates,
            "update_g",
            lambda *a: seen.append((a[4].sum().item(), a[1].last_conv.bias.sum().item())) or original(*a),
        )
        step = training.our_step(dataclasses.replace(PRESETS["rehearsal"], channels=8), 16)
        for _ in range(3):
            step()
    assert len(set(seen)) == 3 and len({moved for _, moved in seen}) == 3


def test_an_estimate_knows_the_size_of_every_data_set():
    assert estimate.IMAGES.keys() == set(loading.DATASETS)


def test_an_estimate_adds_up(monkeypatch, capsys):
    """With made-up costs: linear in steps and seeds, rows that tables share once, never below the longest
    run.
    """
    monkeypatch.setattr(estimate, "measure", lambda config, device: estimate.Cost(1.0, 2.0, 0.001, 10**9))
    monkeypatch.setattr(estimate, "extraction", lambda preset, device: 0.001)
    of_distances = 0.0
    monkeypatch.setattr(estimate, "distances", lambda preset, device: of_distances)
    preset = dataclasses.replace(PRESETS["rehearsal"], steps=3600, score_every=3600, samples=1800)
    hours = lambda frame, column: [float(v.replace(",", "")) for v in frame[column]]
    one, said = estimate.estimate(preset, 1, 1)
    # Table 1: 5 runs of 3 h; Table 2: two of 7 h and one of 3; Figure 3: 3 runs of 3 h; a score takes
    # 0.001 h
    assert one["runs"].tolist() == [5, 3, 3, 9] and hours(one, "of it training") == [15, 17, 9, 35]
    assert hours(one, "longest run, hours") == [3, 7, 3, 7] and hours(one, "checkpoints, GB") == [
        15,
        9,
        9,
        27,
    ]
    many, _ = estimate.estimate(preset, 100, 2)
    assert hours(many, "device-hours") == [30, 34, 18, 70] and hours(many, "hours") == [3, 7, 3, 7]
    assert any("linear" in text for text in said)
    of_distances = 3600.0  # an hour a score
    scored, _ = estimate.estimate(preset, 1, 1)
    assert hours(scored, "scoring") == [10, 6, 6, 18]  # the last step, and its averaged weights
    preset = dataclasses.replace(preset, resamples=3)
    assert hours(estimate.estimate(preset, 1, 1)[0], "scoring") == [25, 15, 15, 45]
    stress, _ = estimate.estimate(PRESETS["cifar10-stress"], 1, 1)  # its own table, not Tables 1 and 2
    assert stress[""].tolist() == ["Stress", "whole study"] and stress["runs"].tolist() == [6, 6]
    assert (
        "6 runs (6 distinct rows, 1 seeds)" in estimate.scaling(PRESETS["cifar10-stress"], [1], 1e3, 1)[1][0]
    )


def test_an_estimate_of_data_without_classes_is_refused(capsys):
    assert cli.run(["estimate", "--preset", "celeba"]) == 2
    assert "have no classes" in capsys.readouterr().err


@pytest.mark.parametrize("samples, classes, by_class", [(1000, 2, True), (1000, 10, False)])
def test_the_cost_of_distances_is_of_those_that_a_score_has(samples, classes, by_class, monkeypatch):
    """Each distance takes a second; precision and recall come with the first resizer's KID."""
    compared = []
    monkeypatch.setattr(estimate.metrics, "frechet_distance", lambda *_: None)
    monkeypatch.setattr(estimate.pairs, "within", lambda *_: None)
    monkeypatch.setattr(estimate.pairs, "scores", lambda *given: compared.append(given[-1]))
    monkeypatch.setattr(estimate, "_seconds", lambda call, device: call() or 1.0)
    monkeypatch.setitem(estimate.CLASSES, "cifar10", classes)
    lite = dataclasses.replace(PRESETS["cifar10-cpu"], samples=samples)
    assert estimate.distances(lite, "cpu") == 1 + 1 + classes * by_class and compared == [False]
    inception = dataclasses.replace(PRESETS["cifar10"], samples=samples)
    assert estimate.distances(inception, "cpu") == 2 * (1 + 1) + classes * by_class
    assert compared == [False, True, False]
    many = dataclasses.replace(lite, samples=4 * estimate.FEATURES)  # KID grows with the square
    assert estimate.distances(many, "cpu") == 1 + 16 + classes * (4000 // classes >= 500)


def test_a_table_of_clusters_adds_up(monkeypatch, capsys):
    """Nine runs of 1, or 2.33, hours on the given GPU: as many at once as there are GPUs, then several GPUs a
    run, and what stays idle.
    """
    monkeypatch.setattr(estimate, "measure", lambda config, device: estimate.Cost(1.0, 2.0, 0.001, 10**9))
    preset = dataclasses.replace(PRESETS["rehearsal"], steps=3600, batch_size=8)
    frame, said = estimate.scaling(preset, [1, 5, 9, 40], 8.0, 1)
    total = 7 * 1 + 2 * 7 / 3
    assert frame["runs at once"].tolist() == [1, 5, 9, 9] and frame["GPUs a run"].tolist() == [1, 1, 1, 4]
    assert frame["hours"].tolist() == [f"{total:.0f}", "2", "2", "1"] and frame["GPUs idle"].tolist()[:3] == [
        "0%",
        "0%",
        f"{1 - total / 21:.0%}",
    ]
    assert (
        frame["images read, MB/s"].tolist()[-1] == f"{36 * 8 * 32 * 32 * 3 / 1e6:,.0f}"
        and "9 runs" in said[0]
    )
    for words in (["--gpus", "1,8"], ["--gpus", "some"], ["--gpus", "0"]):
        assert cli.run(["estimate", "--preset", "rehearsal", *words]) == 2
        assert "--gpus is" in capsys.readouterr().err


def test_an_estimate_measures_every_row(capsys):
    assert cli.run(["estimate", "--preset", "rehearsal"]) == 0
    said = capsys.readouterr().out
    assert (
        "whole study" in said
        and "Not linear" not in said
        and "Scoring (100 samples every 2 steps, one more at the end)" in said
    )


def test_a_cost_is_of_the_presets_batch(make_config):
    config = make_config("none", batch_size=64, channels=16)
    assert (
        estimate.measured_batch(config.preset, "cpu") == 64
        and estimate.measured_batch(PRESETS["imagenet"], "cpu") == 2
    )
    cost = estimate.measure(study.configure(study.rows()["none"], config.preset), "cpu")
    of_g, of_d = map(resnet.parameter_count, resnet.build(dataclasses.replace(config, num_classes=10)))
    # 4 bytes each: weights, Adam's two averages and, of G, the average that every run keeps
    kept = 4 * (3 * (of_g + of_d) + of_g)
    assert cost.update_d > 0 and cost.checkpoint == pytest.approx(kept, rel=0.05)
    sampled = dataclasses.replace(config, recipe=dataclasses.replace(config.recipe, ema_decay=0.999))
    more = estimate.measure(sampled, "cpu").checkpoint - cost.checkpoint  # the average that is sampled from
    assert more == pytest.approx(4 * of_g, rel=0.05)


def test_a_cost_is_measured_with_a_gradient_penalty_too(make_config):
    cost = estimate.measure(make_config("recipe_heykeetae", channels=16), "cpu")
    assert cost.update_d > 0 and cost.update_g > 0
