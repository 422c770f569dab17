"""The feature extractors."""

import numpy as np
import pytest
import timm
import torch

from repro import cli
from repro.scoring import features, weights
from repro.scoring.features import EfficientNetLite, load_extractor


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


@pytest.mark.parametrize("name", list(features.LITE))
def test_batch_norms_folded_into_convolutions_compute_the_same(name):
    extractor = features.load_extractor(name)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in extractor.modules())
    plain = timm.create_model(f"tf_{name}", pretrained=False).eval()
    stored = torch.load(weights.in_package(features.LITE[name]), weights_only=True)
    plain.load_state_dict(dict(zip(plain.state_dict(), stored.values(), strict=True)))
    # more than pass at once
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (30, 3, 32, 32), np.uint8))
    with torch.inference_mode():
        expected = plain.forward_head(
            plain.forward_features(features.resize(images, 96) / 127.5 - 1), pre_logits=True
        )
    assert (extractor(images)[0][""] - expected).norm() < 1e-5 * expected.norm()
