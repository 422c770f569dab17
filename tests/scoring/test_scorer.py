"""References, their bounds, and the scores of a run's samples."""

import dataclasses

import numpy as np
import pytest
import torch

from repro.checks import validation
from repro.data.images import ImageData
from repro.errors import ReproError
from repro.scoring import extraction, metrics, pairs
from repro.scoring import scorer as scorers
from repro.scoring.features import load_extractor
from repro.scoring.neighbours import nearest_training_images
from repro.scoring.scorer import Scorer
from repro.scoring.scores import score_images


def test_reference_statistics_are_cached_and_a_damaged_cache_is_made_again(
    make_config, shapes_data, tmp_path, monkeypatch, cheap_second
):
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path))
    config = make_config()
    first = Scorer(config, shapes_data)
    # the statistics; the other holds real and noise
    path = max((tmp_path / "references").iterdir(), key=lambda p: p.stat().st_size)
    monkeypatch.setattr(extraction, "extract", lambda *a: pytest.fail("the cache was not used"))
    again = Scorer(config, shapes_data)
    np.testing.assert_array_equal(
        first.reference.statistics[""].covariance, again.reference.statistics[""].covariance
    )
    monkeypatch.undo()
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path))
    path.write_bytes(path.read_bytes()[:1000])
    repaired = Scorer(config, shapes_data)
    np.testing.assert_array_equal(first.reference.statistics[""].mean, repaired.reference.statistics[""].mean)


def test_the_scores_of_real_images(make_config, shapes_data):
    """Real images against the statistics of real images: near nothing, and fully consistent."""
    scorer, labels = Scorer(make_config(references=400), shapes_data), shapes_data.labels[:400]
    scores = scorer(np.array(shapes_data.images[:400]), labels)
    assert scores["consistency"] == scores["consistency_mirrored"] == scores["consistency_turned"] == 1
    assert scores["diversity"] == pytest.approx(1, abs=0.05) and scores["is"] > 3
    noise = np.random.default_rng(0).integers(0, 256, (400, 32, 32, 3), dtype=np.uint8)
    assert scores["fid"] < 0.3 * scorer(noise, labels)["fid"]


def fresh_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(extraction, "cache_folder", lambda: tmp_path)


def test_what_a_perfect_and_a_useless_generator_would_get(make_config, shapes_data, monkeypatch, tmp_path):
    fresh_cache(monkeypatch, tmp_path)
    scorer = Scorer(make_config(), shapes_data)
    assert scorer.real["fid"] < scorer.noise["fid"] / 2 and scorer.real["consistency"] == 1
    assert (
        scorer.real["fid_lite2"] < scorer.noise["fid_lite2"] / 2
        and scorer.real["kid_lite2"] < scorer.noise["kid_lite2"] / 2
    )
    assert scorer.real["images"] == 100 and scorer.noise["is"] < scorer.real["is"]
    again = Scorer(make_config(), shapes_data)  # from the cache
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
        Scorer(make_config(), black)


def test_a_broken_extractor_stops_the_study(make_config, shapes_data, monkeypatch, tmp_path):
    fresh_cache(monkeypatch, tmp_path)
    extractor = load_extractor("efficientnet_lite0")
    torch.nn.init.zeros_(extractor.network.conv_head.weight)  # features that no image changes
    monkeypatch.setattr(scorers, "load_extractor", lambda name: extractor)
    with pytest.raises(ReproError, match="no score could tell good samples from bad.*Nothing was trained"):
        Scorer(make_config(), shapes_data)


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


@pytest.fixture
def cheap_second(monkeypatch):
    """Scorers whose second extractor costs nothing."""
    load = lambda name: (Colours if name == scorers.SECOND else load_extractor)(name)
    monkeypatch.setattr(scorers, "load_extractor", load)


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
    monkeypatch.setattr(scorers, "load_extractor", Colours)


def test_a_perfect_generator_of_data_in_class_order(make_config, cheap, monkeypatch):
    """More images than are kept for KID, precision and recall, a class after the other: they score as the
    same images shuffled.
    """
    monkeypatch.setattr(metrics, "KEPT", 400)
    real, generated = coloured(2000, 1), coloured(1000, 2)
    order = np.random.default_rng(0).permutation(1000)
    shuffled = dataclasses.replace(generated, images=generated.images[order], labels=generated.labels[order])
    in_order, mixed = (score_images(Colours(), images, real)[0] for images in (generated, shuffled))
    for scores in (in_order, mixed):
        assert abs(scores["kid"]) < 0.002 and scores["precision"] > 0.7 and scores["recall"] > 0.7, scores
        assert scores["is_10"] == pytest.approx(scores["is"], rel=0.1)
    assert in_order["fid"] == pytest.approx(mixed["fid"]) and in_order["is"] == pytest.approx(mixed["is"])
    # a run's scores are those of the same functions; its neighbours are searched in all classes
    scorer = Scorer(make_config(references=1500, samples=300), real)
    assert abs(scorer(generated.images, generated.labels)["kid"]) < 0.002
    nearest, medians = nearest_training_images(scorer, real, generated.images[::100], 1)
    assert len(nearest) == 10 and medians["samples"] == pytest.approx(medians["real"], rel=0.3)


def test_real_images_are_those_of_the_test_split(make_config, cheap):
    """Also when all training images are references, and when its images have no labels."""
    test = coloured(300, 5, "test")
    scorer = Scorer(make_config(references=2000, samples=200), coloured(1000, 1, test=lambda: test))
    assert scorer.definition["references"] == 1000 and scorer.definition["real_split"] == "test"
    assert (
        scorer.real["images"] == 200
        and scorer.real["fid"] > 1e-4
        and abs(scorer.real["kid"]) < 0.01
        and scorer.real["diversity"] > 0.9
    )
    unlabelled = dataclasses.replace(test, labels=np.full(300, -1), fingerprint="unlabelled")
    without = Scorer(
        make_config(references=2000, samples=200), coloured(1000, 1, test=lambda: unlabelled)
    ).real
    assert (
        without["fid"] == scorer.real["fid"] and "diversity" not in without and "kid_by_class" not in without
    )


def test_real_images_are_held_out_where_there_is_no_test_split(make_config, cheap, caplog):
    """All training images were wanted as references: a quarter of them, or as many as are sampled, is not."""
    whole = coloured(400, 1)
    scorer = Scorer(make_config(references=2000), whole)
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
        Scorer(make_config(references=2000), coloured(400, 1, test=lambda: small)).definition["references"]
        == 300
    )
    assert "split test of coloured holds 20 images, 100 are needed" in caplog.text
    with pytest.raises(ReproError, match="hold 7 images: scores need at least 8"):
        Scorer(
            make_config(references=2000),
            dataclasses.replace(whole, images=whole.images[:7], labels=whole.labels[:7]),
        )


def test_few_photographs_are_judged_without_the_bias_of_fid(make_config, cheap, monkeypatch):
    """FID of few real images reads high: it is no sign of a broken extractor, as long as KID tells them from
    noise.
    """
    honest = metrics.frechet_distance
    monkeypatch.setattr(metrics, "frechet_distance", lambda a, b: honest(a, b) + 1000)
    assert Scorer(make_config(references=2000), coloured(400, 1)).real["fid"] > 1000
    monkeypatch.setattr(
        Colours,
        "forward",
        lambda self, images: ({"": torch.ones(len(images), 4)}, torch.ones(len(images), 2) / 2),
    )
    with pytest.raises(ReproError, match="KID.*Nothing was trained"):
        Scorer(make_config(references=2000), coloured(400, 2))


def test_samples_without_labels_have_no_scores_by_class(make_config, cheap):
    """An unconditional generator's labels mean nothing, however many images of each class there are."""
    scorer = Scorer(make_config("recipe_heykeetae", samples=300, references=900), coloured(1000, 1))
    images = coloured(300, 2)
    assert "kid_by_class" not in scorer(images.images, images.labels)


def test_the_second_extractor_scores_the_last_samples_under_its_own_names(make_config, cheap):
    scorer = Scorer(make_config(references=300), coloured(500, 1))
    images = coloured(100, 2)
    first, last = (scorer(images.images, images.labels, last) for last in (False, True))
    assert set(last) - set(first) == {"fid_lite2", "kid_lite2", "is_lite2"} and first == {
        k: v for k, v in last.items() if k in first
    }
    assert scorer.definition["second_extractor"].startswith("efficientnet_lite2")


def test_uneven_and_missing_classes_are_drawn_as_told():
    labels = np.arange(1000) % 10
    images = np.broadcast_to(labels[:, None, None, None], (1000, 2, 2, 3)).astype(np.uint8)
    counts = lambda made: np.bincount(made[:, 0, 0, 0], minlength=10)
    assert (counts(validation.corrupt(images, labels, "classes missing", 0.8)) > 0).tolist() == [True] * 2 + [
        False
    ] * 8
    uneven = counts(validation.corrupt(images, labels, "classes uneven", 5.0))
    assert uneven.sum() == 1000 and uneven[0] / uneven[9] == pytest.approx(5, rel=0.4)


@pytest.mark.slow  # by day test_cluster compares scores of processes
def test_two_processes_score_alike(tmp_path):
    """The same run scored in a process of its own: equal to the last digit."""
    import subprocess
    import sys

    code = (
        "import numpy as np, torch; torch.set_num_threads(1)\n"
        "from repro.scoring.extraction import extract\n"
        "from repro.scoring.features import load_extractor\n"
        "from repro.scoring.scores import score\n"
        "x = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)\n"
        "e = load_extractor('efficientnet_lite0')\n"
        "a, b = (extract(e, part, 30) for part in (x[:30], x[30:]))\n"
        "print(score(a, b, extended=True))"
    )
    two = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    one, other = (process.communicate(timeout=300)[0] for process in two)
    assert one == other and "fid" in one


def test_bounds_of_one_reference_are_not_taken_for_anothers(make_config, cheap):
    few, many = (Scorer(make_config(references=count), coloured(1000, 1)) for count in (200, 400))
    assert few.real["fid"] != many.real["fid"] and few.noise["fid"] != many.noise["fid"]
    assert few.real_diversity != many.real_diversity


def test_real_images_of_uneven_classes_have_no_intra_fid_and_samples_have(make_config, monkeypatch, cheap):
    """Held-out images are a random draw: at CIFAR-10's size one class has 485 of the 500 images that are
    needed.
    """
    monkeypatch.setattr(metrics, "MINIMUM_PER_CLASS", 12)
    monkeypatch.setattr(metrics, "KID_PER_CLASS", 12)
    data = coloured(1000, 1)
    scorer = Scorer(make_config(samples=120, references=300), data)
    assert "intra_fid" not in scorer.real and "intra_kid" not in scorer.real and "intra_fid" in scorer.noise
    of = np.concatenate([np.flatnonzero(data.labels == k)[:12] for k in range(10)])
    images, labels = data.images[of], data.labels[of]
    scores = scorer(images, labels)
    assert scores["intra_fid"] > 0 and list(scores["kid_by_class"]) == list(data.class_names)
    assert scores["intra_kid"] == pytest.approx(np.mean(list(scores["kid_by_class"].values())))
    k = 3  # a class's KID is its own images' against its own references, whatever the order of the samples
    features = lambda images: extraction.extract(scorer.extractor, images, len(images)).in_order("")
    alone = pairs.scores(
        features(data.images[scorer.chosen[scorer.labels == k]]), features(images[labels == k])
    )["kid"]
    assert scores["kid_by_class"][data.class_names[k]] == pytest.approx(alone, abs=1e-4)
    order = np.random.default_rng(0).permutation(len(images))
    assert scorer(images[order], labels[order])["intra_kid"] == pytest.approx(scores["intra_kid"], abs=1e-4)
