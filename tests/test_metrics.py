import dataclasses

import numpy as np
import pytest
import timm
import torch

from repro import cli
from repro.checks import validation
from repro.config import ReproError
from repro.data.images import ImageData, load
from repro.scoring import evaluate, features, metrics, weights
from repro.scoring.features import EfficientNetLite, load_extractor
from repro.scoring.metrics import Statistics, frechet_distance, inception_score
from repro.studies.study import Study


def gaussian(mean, covariance):
    return Statistics(np.asarray(mean, float), np.asarray(covariance, float), 1000)


def test_frechet_distance_of_two_gaussians_in_closed_form():
    a = gaussian([0, 1, 2], np.diag([1.0, 4.0, 9.0]))
    b = gaussian([3, 1, -2], np.diag([4.0, 1.0, 9.0]))
    assert frechet_distance(a, b) == pytest.approx(9 + 16 + 1 + 1)  # |mu|^2 + sum of (sqrt a - sqrt b)^2
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_equals_the_matrix_square_root_also_when_singular():
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200, 30)) @ rng.normal(size=(30, 30)), rng.normal(size=(300, 30)) + 0.5
    sa, sb = Statistics.of(a), Statistics.of(b)
    trace = np.trace(sa.covariance + sb.covariance - 2 * sqrtm(sa.covariance @ sb.covariance).real)
    assert frechet_distance(sa, sb) == pytest.approx(((sa.mean - sb.mean) ** 2).sum() + trace, rel=1e-6)
    few = Statistics.of(a[:10])  # rank 9 of 30
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(few, sb) == pytest.approx(frechet_distance(sb, few), rel=1e-9)


def test_inception_score_at_its_bounds():
    assert inception_score(np.full((50, 10), 0.1)) == pytest.approx((1, 1))
    assert inception_score(np.eye(10)[np.arange(100) % 10])[0] == pytest.approx(10)
    assert inception_score(np.eye(10)[np.zeros(100, int)]) == pytest.approx((1, 1))
    in_order = inception_score(np.eye(10)[np.arange(1000) // 100])  # classes one after the other
    assert in_order[0] == pytest.approx(10) and in_order[1] > 9


def test_the_inception_score_is_the_formula_and_does_not_depend_on_batches():
    p = np.random.default_rng(0).dirichlet(np.ones(20) / 5, 203)
    formula = lambda p: np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean())
    mixed = p[np.argsort(metrics.shuffled(203))]
    splits = [formula(mixed[i * 203 // 10 : (i + 1) * 203 // 10]) for i in range(10)]
    assert inception_score(p) == pytest.approx((formula(p), np.mean(splits)), rel=1e-12)
    predictions = metrics.Predictions(203)
    for i in range(0, 203, 17):
        predictions.add(torch.from_numpy(p[i : i + 17]))
    assert predictions.scores() == pytest.approx(inception_score(p), rel=1e-12)
    assert inception_score(p)[1] < inception_score(p)[0]  # ten splits of few images read lower


def test_statistics_do_not_depend_on_batches_or_order():
    x = (np.random.default_rng(0).normal(size=(500, 40)) + 1000).astype(
        np.float32
    )  # a mean far from 0: sums of squares would lose digits
    one = Statistics.of(x)
    np.testing.assert_allclose(
        one.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-10, atol=1e-12
    )
    moments = metrics.Moments()
    for part in np.split(np.random.default_rng(1).permutation(x), [1, 50, 51, 300]):
        moments.add(torch.from_numpy(part))
    many = moments.statistics()
    np.testing.assert_allclose(many.mean, one.mean, rtol=1e-12)
    np.testing.assert_allclose(many.covariance, one.covariance, rtol=1e-9, atol=1e-12)
    assert many.count == 500
    with pytest.raises(ValueError, match="at least 2"):
        metrics.Moments().statistics()


def test_the_distance_of_fewer_images_than_features_is_exact():
    """Against the singular values of the centred features themselves, where no covariance is squared and
    rooted.
    """
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(300, 300)) * np.exp(-np.arange(300) / 40)
    for n, m in ((40, 30), (600, 50), (50, 600)):
        a, b = rng.normal(size=(n, 300)) @ mixing, rng.normal(size=(m, 300)) @ mixing + 0.05
        centred_a, centred_b = (a - a.mean(0)) / np.sqrt(n - 1), (b - b.mean(0)) / np.sqrt(m - 1)
        nuclear = np.linalg.svd(centred_a @ centred_b.T, compute_uv=False).sum()
        exact = (
            ((a.mean(0) - b.mean(0)) ** 2).sum() + (centred_a**2).sum() + (centred_b**2).sum() - 2 * nuclear
        )
        assert frechet_distance(Statistics.of(a), Statistics.of(b)) == pytest.approx(exact, rel=1e-9)


def test_small_samples_read_high_and_the_extrapolation_mends_it():
    """FID's bias is about linear in 1/N (Chong and Forsyth 2020, arXiv 1911.07023): two sets of one
    distribution.
    """
    rng = np.random.default_rng(0)
    reference = Statistics.of(rng.normal(size=(20_000, 64)))
    x = rng.normal(size=(10_000, 64))
    fids = {n: frechet_distance(reference, Statistics.of(x[:n])) for n in (1000, 2000, 5000, 10_000)}
    assert list(fids.values()) == sorted(fids.values(), reverse=True) and fids[1000] > 5 * fids[10_000]
    slope, intercept = np.polyfit([1 / n for n in fids], list(fids.values()), 1)
    assert abs(intercept) < fids[10_000] / 2


def test_kernel_distance_precision_and_recall():
    rng = np.random.default_rng(0)
    real, same, far = rng.normal(size=(400, 16)), rng.normal(size=(400, 16)), rng.normal(size=(400, 16)) + 1
    assert abs(metrics.kernel_distance(real, same)) < 0.05 < metrics.kernel_distance(real, far)
    from torch_fidelity.metric_kid import kid_features_to_metric

    for generated in (same, far):
        theirs = kid_features_to_metric(
            *(torch.from_numpy(x) for x in (generated, real)),
            kid_subsets=1,
            kid_subset_size=400,
            verbose=False,
        )
        assert metrics.kernel_distance(real, generated) == pytest.approx(
            theirs["kernel_inception_distance_mean"], rel=1e-4, abs=1e-6
        )
    assert metrics.kernel_distance(real, far[:300], metrics.kernel_mean(real)) == pytest.approx(
        metrics.kernel_distance(real, far), rel=0.1
    )
    precision, recall = metrics.precision_recall(real, same)
    assert precision > 0.7 and recall > 0.7
    precision, recall = metrics.precision_recall(
        real, np.repeat(real[:10], 40, 0) + 1e-3 * rng.normal(size=(400, 16))
    )
    assert precision > 0.95 and recall < 0.1  # real pictures, but ten only


def test_intra_class_fid_is_each_classes_own_and_refuses_few_images(monkeypatch):
    rng = np.random.default_rng(0)
    shifts = {0: 0.0, 1: 1.0, 2: 3.0}
    real = {k: Statistics.of(rng.normal(size=(600, 4))) for k in shifts}
    generated = {k: Statistics.of(rng.normal(size=(500, 4)) + shift) for k, shift in shifts.items()}
    found = metrics.intra_class_fid(real, generated)
    assert found[0] < 0.1 and found[1] == pytest.approx(4, abs=1) and found[2] == pytest.approx(36, abs=3)
    swapped = metrics.intra_class_fid(real, {0: generated[2], 1: generated[1], 2: generated[0]})
    assert swapped[0] == pytest.approx(found[2], abs=2) and swapped[2] < 0.5  # overall the same images
    generated[1] = Statistics.of(rng.normal(size=(499, 4)))
    with pytest.raises(ReproError, match="Class 1 has 499 generated images.*bias.*500 are needed"):
        metrics.intra_class_fid(real, generated)
    del generated[1]
    with pytest.raises(ReproError, match="Class 1 has 0 generated"):
        metrics.intra_class_fid(real, generated)


def test_diversity_sees_a_collapse_within_classes():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (100, 8, 8, 3), dtype=np.uint8), np.arange(100) % 10
    assert metrics.diversity(images, labels) > 60
    assert metrics.diversity(images[labels], labels) == 0  # one picture a class


@pytest.fixture(scope="module")
def extractor():
    return EfficientNetLite("efficientnet_lite0")


def test_the_extractor_knows_imagenet_classes_and_does_not_mix_images(extractor, shapes_data):
    images = torch.from_numpy(np.array(shapes_data.images[:6])).permute(0, 3, 1, 2)
    features, probabilities = extractor(images)
    features = features[""]
    assert features.shape == (6, 1280) and probabilities.shape == (6, 1000)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(6))
    alone, _ = extractor(images[3:4])
    torch.testing.assert_close(alone[""][0], features[3], rtol=1e-3, atol=1e-3)


def test_the_second_extractor_is_another_network_of_the_same_class(extractor, shapes_data):
    second = load_extractor("efficientnet_lite2")
    images = torch.from_numpy(np.array(shapes_data.images[:6])).permute(0, 3, 1, 2)
    features, probabilities = second(images)
    assert (
        features[""].shape == (6, 1280)
        and type(second) is type(extractor)
        and second.name == "efficientnet_lite2"
    )
    torch.testing.assert_close(probabilities.sum(1), torch.ones(6))
    assert not torch.allclose(features[""], extractor(images)[0][""], atol=0.1)


@pytest.mark.parametrize("file", [weights.LITE0, weights.LITE2])
def test_weights_inside_a_package_are_verified(file, tmp_path, monkeypatch, capsys):
    """A missing package, a missing file and a changed one each end with one sentence and exit code 2, before
    data are read.
    """
    path = weights.in_package(file)
    words = ["reproduce", "--preset", "rehearsal", "--out", str(tmp_path / "out")]
    module = tmp_path / file.package.replace("-", "_")
    (module / "models").mkdir(parents=True)
    (module / "__init__.py").write_text("")

    def refused(said):
        assert cli.run(words) == 2
        error = capsys.readouterr().err.strip()
        assert said in error and file.package in error and error.count("\n") == 0, error

    monkeypatch.setattr(
        weights.importlib.resources,
        "files",
        lambda name, original=weights.importlib.resources.files: (
            module if name == module.name else original(name)
        ),
    )
    refused("is not installed")  # the package without its file
    (module / "models" / file.name).write_bytes(path.read_bytes()[:-1])
    refused("is not the published file")
    monkeypatch.undo()
    import sys

    monkeypatch.setitem(sys.modules, module.name, None)  # as if it were not installed
    refused("is not installed")
    assert not (tmp_path / "out" / "rehearsal" / "runs").exists()


def test_samples_do_not_depend_on_how_they_are_batched(make_config, monkeypatch):
    from repro.networks import resnet

    g, _ = resnet.build(make_config())
    config = make_config()
    whole, labels = evaluate.sample(g, config, 30, "fp32")
    monkeypatch.setattr(evaluate, "BATCH", 7)
    parts, _ = evaluate.sample(g, config, 30, "fp32")
    assert np.abs(whole.astype(int) - parts.astype(int)).max() <= 1  # one grey level of rounding
    assert list(labels[:12]) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert len({image.tobytes() for image in whole}) == 30
    first = evaluate.latents(128, 7, 0, 10)
    assert torch.equal(first[4:6], evaluate.latents(128, 7, 4, 2)) and g.training


def test_reference_statistics_are_cached_and_a_damaged_cache_is_made_again(
    make_config, shapes_data, tmp_path, monkeypatch
):
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path))
    config = make_config()
    first = evaluate.Scorer(config, shapes_data)
    path = max(
        (tmp_path / "references").iterdir(), key=lambda p: p.stat().st_size
    )  # the statistics; the other holds real and noise
    monkeypatch.setattr(evaluate, "extract", lambda *a: pytest.fail("the cache was not used"))
    again = evaluate.Scorer(config, shapes_data)
    np.testing.assert_array_equal(
        first.reference.statistics[""].covariance, again.reference.statistics[""].covariance
    )
    monkeypatch.undo()
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path))
    path.write_bytes(path.read_bytes()[:1000])
    repaired = evaluate.Scorer(config, shapes_data)
    np.testing.assert_array_equal(first.reference.statistics[""].mean, repaired.reference.statistics[""].mean)


def test_the_scores_of_real_images(make_config, shapes_data):
    """Real images against the statistics of real images: near nothing, and fully consistent."""
    scores = evaluate.Scorer(make_config(references=400), shapes_data)(
        np.array(shapes_data.images[:400]), shapes_data.labels[:400]
    )
    assert scores["consistency"] == scores["consistency_mirrored"] == scores["consistency_turned"] == 1
    assert scores["diversity"] == pytest.approx(1, abs=0.05) and scores["is"] > 3
    noise = np.random.default_rng(0).integers(0, 256, (400, 32, 32, 3), dtype=np.uint8)
    assert (
        scores["fid"]
        < 0.3
        * evaluate.Scorer(make_config(references=400), shapes_data)(noise, shapes_data.labels[:400])["fid"]
    )


# --- the real data are scored first


def fresh_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(evaluate, "cache_folder", lambda: tmp_path)


def test_what_a_perfect_and_a_useless_generator_would_get(make_config, shapes_data, monkeypatch, tmp_path):
    fresh_cache(monkeypatch, tmp_path)
    scorer = evaluate.Scorer(make_config(), shapes_data)
    assert scorer.real["fid"] < scorer.noise["fid"] / 2 and scorer.real["consistency"] == 1
    assert (
        scorer.real["fid_lite2"] < scorer.noise["fid_lite2"] / 2
        and scorer.real["kid_lite2"] < scorer.noise["kid_lite2"] / 2
    )
    assert scorer.real["images"] == 100 and scorer.noise["is"] < scorer.real["is"]
    again = evaluate.Scorer(make_config(), shapes_data)  # from the cache
    assert (again.real, again.noise) == (scorer.real, scorer.noise)


def test_images_that_do_not_differ_stop_the_study(make_config, shapes_data, monkeypatch, tmp_path):
    fresh_cache(monkeypatch, tmp_path)
    black = dataclasses.replace(
        shapes_data,
        images=np.zeros_like(shapes_data.images[:400]),
        labels=shapes_data.labels[:400],
        fingerprint="black",
    )
    with pytest.raises(
        ReproError, match="hardly differ within a class .by 0.00 grey levels.*nothing was trained"
    ):
        evaluate.Scorer(make_config(), black)


def test_a_broken_extractor_stops_the_study(make_config, shapes_data, monkeypatch, tmp_path):
    fresh_cache(monkeypatch, tmp_path)
    extractor = load_extractor("efficientnet_lite0")
    torch.nn.init.zeros_(extractor.network.conv_head.weight)  # features that no image changes
    monkeypatch.setattr(evaluate, "load_extractor", lambda name: extractor)
    with pytest.raises(ReproError, match="no score could tell good samples from bad.*Nothing was trained"):
        evaluate.Scorer(make_config(), shapes_data)


class Colours(torch.nn.Module):
    """An extractor that costs nothing: the colours of a 4x4 thumbnail, and the brightest of its 16 cells as
    the class.
    """

    name, resizer, extended = "colours", "4x4", True

    def __init__(self, name=""):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1 / 255))

    @torch.inference_mode()
    def forward(self, images):
        x = torch.nn.functional.adaptive_avg_pool2d(images.float() * self.scale, 4).flatten(1)
        return {"": x}, torch.nn.functional.one_hot(x[:, :16].argmax(1), 16).float()


def coloured(count, seed, split="train", **more):
    """`count` images of ten classes, one class after the other, a colour a class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) * 10 // count
    palette = np.random.default_rng(0).integers(40, 200, (10, 1, 1, 3))
    images = (
        (palette[labels] + rng.integers(-40, 41, (count, 4, 4, 3))).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    )
    return ImageData(
        "coloured", images, labels, tuple("abcdefghij"), f"{count}-{seed}-{split}", split, **more
    )


@pytest.fixture
def cheap(monkeypatch, tmp_path):
    fresh_cache(monkeypatch, tmp_path)
    monkeypatch.setattr(evaluate, "load_extractor", Colours)


def test_a_perfect_generator_of_data_in_class_order(make_config, cheap, monkeypatch):
    """More images than are kept for KID, precision and recall, a class after the other: they score as the
    same images shuffled.
    """
    monkeypatch.setattr(evaluate, "KEPT", 400)
    real, generated = coloured(2000, 1), coloured(1000, 2)
    order = np.random.default_rng(0).permutation(1000)
    shuffled = dataclasses.replace(generated, images=generated.images[order], labels=generated.labels[order])
    in_order, mixed = (evaluate.score_images(Colours(), images, real)[0] for images in (generated, shuffled))
    for scores in (in_order, mixed):
        assert abs(scores["kid"]) < 0.002 and scores["precision"] > 0.7 and scores["recall"] > 0.7, scores
        assert scores["is_10"] == pytest.approx(scores["is"], rel=0.1)
    assert in_order["fid"] == pytest.approx(mixed["fid"]) and in_order["is"] == pytest.approx(mixed["is"])
    # a run's scores are those of the same functions; its neighbours are searched in all classes
    scorer = evaluate.Scorer(make_config(references=1500, samples=300), real)
    assert abs(scorer(generated.images, generated.labels)["kid"]) < 0.002
    nearest, medians = evaluate.nearest_training_images(scorer, real, generated.images[::100], 1)
    assert len(nearest) == 10 and medians["samples"] == pytest.approx(medians["real"], rel=0.3)


# --- real images


def test_real_images_are_those_of_the_test_split(make_config, cheap):
    """Also when all training images are references, and when its images have no labels."""
    test = coloured(300, 5, "test")
    scorer = evaluate.Scorer(make_config(references=2000, samples=200), coloured(1000, 1, test=lambda: test))
    assert scorer.definition["references"] == 1000 and scorer.definition["real_split"] == "test"
    assert (
        scorer.real["images"] == 200
        and scorer.real["fid"] > 1e-4
        and abs(scorer.real["kid"]) < 0.01
        and scorer.real["diversity"] > 0.9
    )
    unlabelled = dataclasses.replace(test, labels=np.full(300, -1), fingerprint="unlabelled")
    without = evaluate.Scorer(
        make_config(references=2000, samples=200), coloured(1000, 1, test=lambda: unlabelled)
    ).real
    assert (
        without["fid"] == scorer.real["fid"] and "diversity" not in without and "kid_by_class" not in without
    )


def test_real_images_are_held_out_where_there_is_no_test_split(make_config, cheap, caplog):
    """All training images were wanted as references: a quarter of them, or as many as are sampled, is not."""
    whole = coloured(400, 1)
    scorer = evaluate.Scorer(make_config(references=2000), whole)
    assert (
        scorer.definition["references"] == 300
        and scorer.real["images"] == 100
        and scorer.definition["real_split"] == "train, no references"
    )
    assert scorer.real["fid"] > 1e-4
    others = np.setdiff1d(np.arange(400), scorer.chosen)
    again = scorer(whole.images[others], whole.labels[others])
    assert scorer.real["fid"] == again["fid"]
    assert "300 reference images: FID of so few reads high" in caplog.text
    small = coloured(20, 5, "test")
    assert (
        evaluate.Scorer(make_config(references=2000), coloured(400, 1, test=lambda: small)).definition[
            "references"
        ]
        == 300
    )
    assert "split test of coloured holds 20 images, 100 are needed" in caplog.text
    with pytest.raises(ReproError, match="hold 7 images: scores need at least 8"):
        evaluate.Scorer(
            make_config(references=2000),
            dataclasses.replace(whole, images=whole.images[:7], labels=whole.labels[:7]),
        )


def test_few_photographs_are_judged_without_the_bias_of_fid(make_config, cheap, monkeypatch):
    """FID of few real images reads high: it is no sign of a broken extractor, as long as KID tells them from
    noise.
    """
    honest = metrics.frechet_distance
    monkeypatch.setattr(metrics, "frechet_distance", lambda a, b: honest(a, b) + 1000)
    assert evaluate.Scorer(make_config(references=2000), coloured(400, 1)).real["fid"] > 1000
    monkeypatch.setattr(
        Colours,
        "forward",
        lambda self, images: ({"": torch.ones(len(images), 4)}, torch.ones(len(images), 2) / 2),
    )
    with pytest.raises(ReproError, match="KID.*Nothing was trained"):
        evaluate.Scorer(make_config(references=2000), coloured(400, 2))


def test_the_second_extractor_scores_the_last_samples_under_its_own_names(make_config, cheap):
    scorer = evaluate.Scorer(make_config(references=300), coloured(500, 1))
    images = coloured(100, 2)
    first, last = (scorer(images.images, images.labels, last) for last in (False, True))
    assert set(last) - set(first) == {"fid_lite2", "kid_lite2", "is_lite2"} and first == {
        k: v for k, v in last.items() if k in first
    }
    assert scorer.definition["second_extractor"].startswith("efficientnet_lite2")


# --- images whose quality is known


@pytest.mark.parametrize("name", ["symmetric_shapes", pytest.param("cifar10", marks=pytest.mark.slow)])
def test_fid_worsens_with_every_step_of_damage(name, rehearsal, monkeypatch, tmp_path):
    from conftest import shared_data

    preset = dataclasses.replace(rehearsal, dataset=name, samples=300, references=500)
    loaded = load(preset, shared_data("cifar10") if name == "cifar10" else None)
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path))
    study = Study("rehearsal", out=str(tmp_path))
    study.preset = preset
    frame = validation.validate(study, loaded, "efficientnet_lite0", extended=False)
    assert validation.orderly(frame).set_index("set")["fid"]["classes missing"], frame
    fid = frame.set_index(["set", "strength"])["fid"]
    real = fid[
        "real",
        0.0,
        # (blur of half a pixel goes unseen on CIFAR-10, and on the shapes FID is at its ceiling by noise of
        # 20)
    ]
    assert fid["blur", 0.5] < fid["blur", 1.0] < fid["blur", 2.0] and real < fid["blur", 1.0], frame
    assert real < fid["noise", 8.0] < fid["noise", 20.0], frame
    assert fid["real, drawn again", 0.0] < fid["classes uneven", 5.0] < fid["classes uneven", 20.0], frame
    real = validation.undamaged(frame)
    assert (
        real["images"].tolist() == [60, 120, 300, 600]
        and real["fid"].is_monotonic_decreasing
        and validation.extrapolated(frame) < real["fid"].min()
    )


def test_validation_is_computed_once_and_shown(rehearsal, tmp_path, capsys):
    """`repro validate`: the notebook in the study's folder, its numbers in a file that a second call
    reads.
    """
    words = ["validate", "--preset", "rehearsal", "--out", str(tmp_path)]
    assert cli.run(words) == 0
    notebook = (tmp_path / "rehearsal" / "metrics.ipynb").read_text()
    assert "uniform noise" in notebook and "extrapolated to endless many" in notebook
    path = tmp_path / "rehearsal" / "metrics-efficientnet_lite0.json"
    path.write_text(path.read_text().replace("uniform noise", "noise that is uniform"))
    study = Study("rehearsal", out=str(tmp_path), executor="none")
    assert "noise that is uniform" in set(validation.stored(study)["set"])
    path.unlink()
    with pytest.raises(ReproError, match="repro validate --preset rehearsal computes it"):
        validation.stored(study)


def test_uneven_and_missing_classes_are_drawn_as_told():
    labels = np.arange(1000) % 10
    images = np.broadcast_to(labels[:, None, None, None], (1000, 2, 2, 3)).astype(np.uint8)
    counts = lambda made: np.bincount(made[:, 0, 0, 0], minlength=10)
    assert (counts(validation.corrupt(images, labels, "classes missing", 0.8)) > 0).tolist() == [True] * 2 + [
        False
    ] * 8
    uneven = counts(validation.corrupt(images, labels, "classes uneven", 5.0))
    assert uneven.sum() == 1000 and uneven[0] / uneven[9] == pytest.approx(5, rel=0.4)


def test_two_processes_score_alike(tmp_path):
    """The same run scored in a process of its own: equal to the last digit."""
    import subprocess
    import sys

    code = (
        "import numpy as np, torch; torch.set_num_threads(1)\n"
        "from repro.scoring import evaluate; from repro.scoring.features import load_extractor\n"
        "x = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)\n"
        "e = load_extractor('efficientnet_lite0')\n"
        "a, b = (evaluate.extract(e, part, 30) for part in (x[:30], x[30:]))\n"
        "print(evaluate.score(a, b, extended=True))"
    )
    two = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    one, other = (process.communicate(timeout=300)[0] for process in two)
    assert one == other and "fid" in one


def test_bounds_of_one_reference_are_not_taken_for_anothers(make_config, shapes_data, monkeypatch, tmp_path):
    fresh_cache(monkeypatch, tmp_path)
    few, many = (evaluate.Scorer(make_config(references=count), shapes_data) for count in (200, 400))
    assert few.real["fid"] != many.real["fid"] and few.noise["fid"] != many.noise["fid"]
    assert few.real_diversity != many.real_diversity


def test_real_images_of_uneven_classes_have_no_intra_fid_and_samples_have(
    make_config, shapes_data, monkeypatch, tmp_path
):
    """Held-out images are a random draw: at CIFAR-10's size one class has 485 of the 500 images that are
    needed.
    """
    fresh_cache(monkeypatch, tmp_path)
    monkeypatch.setattr(metrics, "MINIMUM_PER_CLASS", 12)
    monkeypatch.setattr(metrics, "KID_PER_CLASS", 12)
    scorer = evaluate.Scorer(make_config(samples=120, references=300), shapes_data)
    assert "intra_fid" not in scorer.real and "intra_kid" not in scorer.real and "intra_fid" in scorer.noise
    of = np.concatenate([np.flatnonzero(shapes_data.labels == k)[:12] for k in range(10)])
    images, labels = shapes_data.images[of], shapes_data.labels[of]
    scores = scorer(images, labels)
    assert scores["intra_fid"] > 0 and list(scores["kid_by_class"]) == list(shapes_data.class_names)
    assert scores["intra_kid"] == pytest.approx(np.mean(list(scores["kid_by_class"].values())))
    k = 3  # a class's KID is its own images' against its own references, whatever the order of the samples
    features = lambda images: evaluate.extract(scorer.extractor, images, len(images)).in_order("")
    alone = metrics.kernel_distance(
        features(shapes_data.images[scorer.chosen[scorer.labels == k]]), features(images[labels == k])
    )
    assert scores["kid_by_class"][shapes_data.class_names[k]] == pytest.approx(alone, abs=1e-4)
    order = np.random.default_rng(0).permutation(len(images))
    assert scorer(images[order], labels[order])["intra_kid"] == pytest.approx(scores["intra_kid"], abs=1e-4)


@pytest.mark.parametrize("name", list(features.LITE))
def test_batch_norms_folded_into_convolutions_compute_the_same(name):
    extractor = features.load_extractor(name)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in extractor.modules())
    plain = timm.create_model(f"tf_{name}", pretrained=False).eval()
    stored = torch.load(weights.in_package(features.LITE[name]), weights_only=True)
    plain.load_state_dict(dict(zip(plain.state_dict(), stored.values(), strict=True)))
    images = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (30, 3, 32, 32), np.uint8)
    )  # more than pass at once
    with torch.inference_mode():
        expected = plain.forward_head(
            plain.forward_features(features.resize(images, 96) / 127.5 - 1), pre_logits=True
        )
    assert (extractor(images)[0][""] - expected).norm() < 1e-5 * expected.norm()
