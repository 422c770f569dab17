"""Images from folders, Parquet files and the hub, and what is refused."""

import dataclasses
import hashlib

import datasets
import numpy as np
import pytest
from PIL import Image

from repro.config import Config
from repro.data import cache, images, loading, sources
from repro.errors import ReproError
from repro.presets import PRESETS
from repro.recipes import RECIPES


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """Three classes of four images: colour, grayscale, not square, larger than the preset."""
    rng = np.random.default_rng(0)
    root = tmp_path / "images"
    for name in ("cat", "dog", "zebra"):
        (root / name).mkdir(parents=True)
        for i, (mode, size) in enumerate(
            [("RGB", (32, 32)), ("L", (32, 32)), ("RGB", (50, 40)), ("RGBA", (64, 64))]
        ):
            shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8), mode).save(root / name / f"{i}.png")
    return root


def load(path, dataset="cifar10"):
    return loading.load(dataclasses.replace(PRESETS["rehearsal"], dataset=dataset), path)


def test_a_folder_of_class_folders(folder):
    loaded = load(folder)
    assert loaded.images.shape == (12, 32, 32, 3) and loaded.images.dtype == np.uint8
    assert loaded.class_names == ("cat", "dog", "zebra") and np.bincount(loaded.labels).tolist() == [4, 4, 4]
    # right size: untouched
    assert np.array_equal(loaded.images[0], np.asarray(Image.open(folder / "cat/0.png")))
    gray = loaded.images[1]
    assert (gray == gray[..., :1]).all()
    whole = Image.open(folder / "cat/2.png")
    square = whole.crop((5, 0, 45, 40)).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(loaded.images[2], np.asarray(square))
    assert isinstance(loaded.images, np.memmap)
    # other data under the smoke preset are not the embedded set
    assert load(folder, "symmetric_shapes").name == "images"


def test_the_cache_is_used_until_the_source_changes(folder, monkeypatch):
    first = load(folder)
    monkeypatch.setattr(sources, "read", lambda *a: pytest.fail("the cache was not used"))
    assert load(folder).fingerprint == first.fingerprint
    monkeypatch.undo()
    Image.new("RGB", (32, 32)).save(folder / "cat/0.png")
    assert load(folder).fingerprint != first.fingerprint


def test_a_damaged_cache_is_prepared_again(folder, caplog):
    first = load(folder)
    (path,) = cache.cache_folder().glob("data/*/images.bin")
    path.write_bytes(path.read_bytes()[:500])
    assert load(folder).fingerprint == first.fingerprint and "damaged" in caplog.text


def test_parquet_files(folder, tmp_path):
    import datasets

    target = tmp_path / "parquet"
    target.mkdir()
    whole = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")
    whole.to_parquet(str(target / "train-00000-of-00001.parquet"))
    whole.select(range(2)).to_parquet(str(target / "test-00000-of-00001.parquet"))
    loaded, of_folder = load(target), load(folder)
    assert loaded.fingerprint == of_folder.fingerprint and loaded.class_names == of_folder.class_names


def test_a_train_folder_within_is_taken(folder):
    (folder.parent / "set" / "val").mkdir(parents=True)
    folder.rename(folder.parent / "set" / "train")
    assert len(load(folder.parent / "set").images) == 12


def test_the_test_split_is_read_when_it_is_asked_for(folder, tmp_path, monkeypatch):
    """Of Parquet files; its labels may be unknown, or in another order of the classes."""
    import datasets

    target = tmp_path / "parquet"
    target.mkdir()
    whole = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")
    whole.to_parquet(str(target / "train-00000-of-00001.parquet"))
    assert load(target).test() is None
    names = datasets.ClassLabel(names=["zebra", "okapi", "cat"])
    few = (
        whole.select(range(3))
        .remove_columns("label")
        .add_column("label", [2, -1, 1])
        .cast_column("label", names)
    )
    few.to_parquet(str(target / "test-00000-of-00001.parquet"))
    opened = []
    monkeypatch.setattr(
        sources,
        "_open_source",
        lambda source, split, original=sources._open_source: opened.append(split) or original(source, split),
    )
    loaded = load(target)
    assert opened == ["train"]
    test = loaded.test()
    assert (
        test.split == "test"
        and test.labels.tolist() == [0, -1, -1]
        and test.class_names == loaded.class_names
    )
    assert np.array_equal(test.images, loaded.images[:3]) and test.fingerprint != loaded.fingerprint
    assert load(target).test().split == "test" and opened == ["train", "test"]  # from the cache
    whole.to_parquet(str(target / "validation.parquet"))
    assert load(target).test().split == "validation"  # the one with labels, where there are both


def test_a_test_folder_beside_the_training_folder(folder, tmp_path, caplog):
    root = tmp_path / "set"
    root.mkdir()
    folder.rename(root / "train")
    with caplog.at_level("INFO"):
        assert load(root).test() is None
    assert (
        "images has no test split" not in caplog.text
        and "set has no test split: training images that are no reference" in caplog.text
    )
    (root / "val" / "dog").mkdir(parents=True)
    (root / "train" / "dog" / "0.png").rename(root / "val" / "dog" / "0.png")
    test = load(root).test()
    assert test.split == "val" and test.labels.tolist() == [1] and len(load(root).images) == 11
    (root / "val" / "dog" / "0.png").unlink()
    with pytest.raises(ReproError, match="val holds no images"):
        load(root).test()
    assert load(root / "train").test() is None  # class folders alone: none of them is a split


def test_the_hub_is_asked_once_for_its_splits(folder, monkeypatch):
    import datasets

    asked = []
    opened = lambda name, split, streaming: (
        asked.append(split)
        or datasets.Dataset.from_parquet(str(folder.parent / "rows.parquet")).to_iterable_dataset()
    )
    whole = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")
    whole.to_parquet(str(folder.parent / "rows.parquet"))
    monkeypatch.setattr(datasets, "load_dataset", opened)
    monkeypatch.setattr(
        datasets, "get_dataset_split_names", lambda name: asked.append("splits") or ["train", "test"]
    )
    for _ in range(2):
        assert load(None).test().split == "test"
    assert asked == ["train", "splits", "test"]

    def offline(*_):
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "get_dataset_split_names", offline)
    assert load(None).test().split == "test"
    (answer,) = cache.cache_folder().glob("data/*.splits.json")
    answer.unlink()
    with pytest.raises(ReproError, match="could not be fetched.*--data"):
        load(None).test()


def refused(path, *words):
    with pytest.raises(ReproError) as caught:
        load(path)
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert "\n" not in text


def test_bad_sources_are_refused_in_one_sentence(folder, tmp_path):
    refused(tmp_path / "nowhere", "nowhere", "--data")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no images")
    (tmp_path / "only-test").mkdir()
    (tmp_path / "only-test" / "test-0.parquet").write_bytes(b"x")
    refused(tmp_path / "only-test", "train*.parquet")
    (tmp_path / "photo.jpg").write_bytes(b"x")
    refused(tmp_path / "photo.jpg", "photo.jpg", "a file that is none", "--data")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    datasets.Dataset.from_dict({"image": [], "label": []}, features).to_parquet(str(tmp_path / "no.parquet"))
    refused(tmp_path / "no.parquet", "hold no images")
    with pytest.raises(ReproError, match="There are no images in"):
        loading.read_images(tmp_path / "no.parquet")


def test_a_file_that_is_not_an_image_is_named(folder):
    (folder / "dog" / "1.png").write_text("not an image")
    refused(folder, "dog/1.png", "not an image")
    (folder / "dog" / "1.png").unlink()
    (folder / "dog" / "notes.txt").write_text("notes")
    refused(folder, "dog/notes.txt", "not an image")


def test_hidden_files_are_passed_over(folder):
    (folder / "dog" / ".DS_Store").write_text("hidden")
    assert len(load(folder).images) == 12


def test_a_truncated_image_is_named(folder):
    path = folder / "zebra" / "3.png"
    path.write_bytes(path.read_bytes()[:2000])
    refused(folder, "zebra/3.png")


def test_unusual_images_are_read_as_a_viewer_would_show_them(folder):
    depth = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(depth).save(folder / "cat" / "4-sixteen-bit.png")
    Image.new("CMYK", (40, 40), (255, 0, 0, 0)).save(folder / "cat" / "5-cmyk.jpg")
    frames = [Image.new("P", (32, 32), k) for k in range(3)]
    frames[0].save(folder / "cat" / "6-animated.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (1, 1), (10, 20, 30)).save(folder / "cat" / "7-one pixel é.png")
    sixteen, cmyk, animated, one = load(folder).images[4:8]
    assert np.array_equal(sixteen[..., 0], depth >> 8)
    assert (cmyk[..., 0] < 60).all() and (cmyk[..., 1:] > 130).all()  # cyan
    assert len(np.unique(animated.reshape(-1, 3), axis=0)) == 1  # the first frame
    assert np.array_equal(one[5, 5], (10, 20, 30))


def test_a_decompression_bomb_is_named(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # 32 x 32 is more than twice that
    refused(folder, "cat/0.png", "replace or remove")


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "elsewhere.png")
    (folder / "cat" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    refused(folder, "cat/link.png", "link out of the data folder")


def test_one_class_is_refused_where_classes_are_needed(folder):
    import shutil

    shutil.rmtree(folder / "dog"), shutil.rmtree(folder / "zebra")
    loaded = load(folder)
    with pytest.raises(ReproError, match="one class only.*cat.*recipe_heykeetae"):
        images.with_data(Config(RECIPES["released_code"], PRESETS["rehearsal"]), loaded)
    assert images.with_data(Config(RECIPES["heykeetae"], PRESETS["rehearsal"]), loaded).num_classes == 1


def test_a_class_of_one_image_is_refused_where_classes_are_needed(folder):
    for name in ("1.png", "2.png", "3.png"):
        (folder / "dog" / name).unlink()
    loaded = load(folder)
    with pytest.raises(ReproError, match="one image of the class dog.*at least two"):
        images.with_data(Config(RECIPES["released_code"], PRESETS["rehearsal"]), loaded)
    assert images.with_data(Config(RECIPES["heykeetae"], PRESETS["rehearsal"]), loaded).num_classes == 3


def test_images_without_classes_are_one(folder, tmp_path):
    """CelebA as people have it: a folder of images; and Parquet files without labels."""
    import datasets

    loaded = load(folder / "cat")
    assert loaded.images.shape == (4, 32, 32, 3) and loaded.num_classes == 1
    rows = datasets.load_dataset("imagefolder", data_dir=str(folder / "cat"), split="train", drop_labels=True)
    (tmp_path / "parquet").mkdir()
    rows.to_parquet(tmp_path / "parquet" / "train.parquet")
    of_parquet = load(tmp_path / "parquet")
    assert of_parquet.class_names == ("all",) and np.array_equal(of_parquet.images, loaded.images)


def test_an_unreachable_hub_names_the_remedy(monkeypatch):
    import datasets

    def offline(*_, **__):
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    refused(None, "uoft-cs/cifar10", "--data")


def test_the_embedded_set_is_the_same_everywhere(rehearsal):
    a = loading.load(rehearsal)
    assert a.images.shape == (10_000, 32, 32, 3) and a.num_classes == 10
    again = hashlib.sha256(np.ascontiguousarray(a.images))
    again.update(a.labels)
    assert again.hexdigest() == a.fingerprint


def test_real_cifar10(shared_data):
    loaded = load(shared_data("cifar10"))
    assert (
        loaded.images.shape == (50_000, 32, 32, 3)
        and np.bincount(loaded.test().labels).tolist() == [1000] * 10
    )
    assert np.bincount(loaded.labels).tolist() == [5000] * 10 and loaded.class_names[0] == "airplane"
    # pixels and labels of data_batch_1.bin, whose MD5 the public download scripts record
    first = loaded.images[:10_000].transpose(0, 3, 1, 2).reshape(10_000, -1)
    batch = np.concatenate([loaded.labels[:10_000, None].astype(np.uint8), first], axis=1)
    assert hashlib.md5(batch.tobytes()).hexdigest() == "5dd7e06a14cb22eb9f671a540d1b7c25"


def test_real_tiny_imagenet(shared_data):
    loaded = loading.load(
        dataclasses.replace(PRESETS["rehearsal"], dataset="tiny-imagenet"), shared_data("tiny-imagenet")
    )
    assert loaded.images.shape == (50_000, 32, 32, 3) and loaded.num_classes == 100
    assert np.bincount(loaded.labels).tolist() == [500] * 100


def test_images_of_an_npz_are_resized_as_those_of_files(tmp_path):
    from PIL import Image

    images = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), np.uint8)
    np.savez(tmp_path / "two.npz", images=images)
    (tmp_path / "two").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "two" / f"{i}.png")
    resized = loading.read_images(tmp_path / "two.npz", 8).images
    assert resized.shape == (2, 8, 8, 3)
    assert np.array_equal(resized, loading.read_images(tmp_path / "two", 8).images)


def test_labels_without_names_are_named_by_their_numbers(folder, tmp_path):
    import datasets

    np.savez(tmp_path / "two.npz", images=np.zeros((2, 8, 8, 3), np.uint8), labels=np.array([0, 1]))
    assert loading.read_images(tmp_path / "two.npz").class_names == ("0", "1")
    whole = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")
    whole.cast_column("label", datasets.Value("int64")).to_parquet(tmp_path / "train.parquet")
    assert loading.read_images(tmp_path / "train.parquet", 32).class_names == ("0", "1", "2")
