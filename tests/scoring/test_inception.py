"""Inception's whole path with random weights in both libraries' forms."""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from repro.checks import validation
from repro.scoring import extraction, features, metrics, weights
from repro.scoring.extraction import extract
from repro.scoring.scores import score


class Body(torch.nn.Module):
    """torch-fidelity's network after its resizer and normalisation: (B, 3, 299, 299) to features (B,
    2048).
    """

    STAGES = (
        "Conv2d_1a_3x3",
        "Conv2d_2a_3x3",
        "Conv2d_2b_3x3",
        "MaxPool_1",
        "Conv2d_3b_1x1",
        "Conv2d_4a_3x3",
        "MaxPool_2",
        "Mixed_5b",
        "Mixed_5c",
        "Mixed_5d",
        "Mixed_6a",
        "Mixed_6b",
        "Mixed_6c",
        "Mixed_6d",
        "Mixed_6e",
        "Mixed_7a",
        "Mixed_7b",
        "Mixed_7c",
        "AvgPool",
    )

    def __init__(self, network):
        super().__init__()
        self.stages = torch.nn.Sequential(*(getattr(network, name) for name in self.STAGES))

    def forward(self, x):
        return self.stages(x).flatten(1)


class Published(torch.nn.Module):
    """The interface of inception-2015-12-05.pt that clean-fid uses."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor, return_features: bool = False):
        x = F.interpolate(x.float(), size=[299, 299], mode="bilinear", align_corners=False)
        return self.layers((x - 128) / 128)


def published_files(folder, monkeypatch):
    """One set of random weights in both forms under the published names; `weights` is told their
    checksums.
    """
    from torch_fidelity import feature_extractor_inceptionv3 as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *a, **k: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *a: None)
        network = module.FeatureExtractorInceptionV3("random", ["2048"])
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.dim() > 1:  # keeps the size of what passes through
            torch.nn.init.kaiming_normal_(parameter, generator=generator)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / weights.TORCH_FIDELITY.name)
    with torch.no_grad():
        layers = torch.jit.trace(Body(network), torch.zeros(1, 3, 299, 299))
    torch.jit.script(Published(layers)).save(str(folder / weights.CLEAN_FID.name))
    for name in ("TORCH_FIDELITY", "CLEAN_FID"):
        file = getattr(weights, name)
        monkeypatch.setattr(
            weights, name, weights.File(file.name, file.url, weights.digest(folder / file.name))
        )
    monkeypatch.setenv(weights.VARIABLE, str(folder))


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        published_files(tmp_path_factory.mktemp("weights"), monkeypatch)
        yield features.load_extractor("inception")


COUNT = 12  # images of a set: more than splits of the Inception score and than neighbours of a precision


@pytest.fixture(scope="module")
def sets(shapes_data):
    """Real images, and noisy ones in the place of generated ones."""
    real = np.array(shapes_data.images[:COUNT])
    noise = np.random.default_rng(0).normal(scale=20, size=real.shape)
    return real, np.clip(shapes_data.images[COUNT : 2 * COUNT] + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def extracted(inception, sets):
    return tuple(extract(inception, images, keep=COUNT) for images in sets)


def test_clean_scores_equal_clean_fids_own(inception, sets, extracted):
    from cleanfid import fid

    theirs = []
    for images in sets:
        batches = iter(torch.from_numpy(images).permute(0, 3, 1, 2).split(COUNT // 2))
        theirs.append(
            fid.get_model_features(
                lambda z, batches=batches: next(batches),
                inception.clean,
                mode="clean",
                num_gen=COUNT,
                batch_size=COUNT // 2,
                device=torch.device("cpu"),
                verbose=False,
            )
        )
    real, generated = theirs
    for ours, their in zip(extracted, theirs, strict=True):
        np.testing.assert_allclose(ours.in_order("clean"), their, rtol=1e-3, atol=1e-4 * np.abs(their).max())
    scores = score(*extracted, extended=True)
    assert scores["fid_clean"] == pytest.approx(
        fid.fid_from_feats(real.astype(float), generated.astype(float)), rel=1e-4
    )
    np.random.seed(0)
    assert scores["kid_clean"] == pytest.approx(
        fid.kernel_distance(real.astype(float), generated.astype(float), num_subsets=1), rel=1e-3
    )


def test_the_other_scores_equal_torch_fidelitys_own(sets, extracted):
    import torch_fidelity

    class Images(torch.utils.data.Dataset):
        def __init__(self, images):
            self.images = torch.from_numpy(images).permute(0, 3, 1, 2)

        def __len__(self):
            return len(self.images)

        def __getitem__(self, i):
            return self.images[i]

    real, generated = sets
    theirs = {}
    for splits, rest in ((1, True), (10, False)):
        theirs[splits] = torch_fidelity.calculate_metrics(
            input1=Images(generated if rest else generated[np.argsort(metrics.shuffled(COUNT))]),
            input2=Images(real),
            cuda=False,
            isc=True,
            fid=rest,
            kid=rest,
            prc=rest,
            kid_subset_size=COUNT,
            kid_subsets=1,
            batch_size=8,
            samples_shuffle=False,
            isc_splits=splits,
            verbose=False,
            cache=False,
            num_workers=0,
            feature_extractor="inception-v3-compat",
            feature_extractor_weights_path=os.environ[weights.VARIABLE] + "/" + weights.TORCH_FIDELITY.name,
        )
    scores = score(*extracted, extended=True)
    assert scores["fid"] == pytest.approx(theirs[1]["frechet_inception_distance"], rel=1e-5)
    assert scores["kid"] == pytest.approx(theirs[1]["kernel_inception_distance_mean"], rel=1e-4)
    assert scores["is"] == pytest.approx(theirs[1]["inception_score_mean"], rel=1e-6)
    assert scores["is_10"] == pytest.approx(theirs[10]["inception_score_mean"], rel=1e-6)
    assert (scores["precision"], scores["recall"]) == pytest.approx(
        (theirs[1]["precision"], theirs[1]["recall"])
    )
    assert scores["fid_clean"] != pytest.approx(scores["fid"], rel=1e-3)  # the resizers differ


def test_inceptions_features_do_not_depend_on_the_batch(inception, sets, extracted, monkeypatch):
    monkeypatch.setattr(extraction, "BATCH", 5)
    again = extract(inception, sets[0][:10], keep=10)
    for name in ("", "clean"):
        ours, theirs = again.in_order(name), extracted[0].in_order(name)[:10]
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(ours).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    "family, strengths",
    [
        ("blur", (1.0, 2.0)),
        ("classes missing", (0.8,)),
        ("noise", (20.0, 40.0)),
        ("classes uneven", (2000.0,)),
    ],
)
def test_fid_worsens_with_damage(inception, shapes_data, sets, extracted, family, strengths):
    """With both resizers; against the undamaged images themselves, so that few are enough: the weights are
    random.
    """
    images, labels, undamaged = sets[0], shapes_data.labels[:COUNT], extracted[0]
    scores = lambda found: score(undamaged, found, extended=False)
    itself = scores(undamaged)
    damaged = [
        scores(extract(inception, validation.corrupt(images, labels, family, strength), COUNT))
        for strength in strengths
    ]
    for name in ("fid", "fid_clean"):
        fids = [found[name] for found in (itself, *damaged)]
        assert fids == sorted(fids) and fids[0] < 1e-3 * fids[1], (family, name, fids)


@pytest.mark.parametrize("size", [32, 64, 128, 500])
def test_resizing_batches_equals_clean_fids_image_by_image(size):
    """To 1e-3 of 255, up and down, where Pillow works on floats."""
    from cleanfid.resize import build_resizer

    images = np.random.default_rng(size).integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    ours = features.resize(torch.from_numpy(images).permute(0, 3, 1, 2), 299)
    theirs = np.stack([build_resizer("clean")(image) for image in images])
    assert np.abs(ours.permute(0, 2, 3, 1).numpy() - theirs).max() < 1e-3 * 255
