"""Checkpoints: what is written, restored and refused."""

import os

import pytest
import torch

from repro import runs
from repro.errors import ReproError
from repro.training import checkpoint, loop
from tests.training.helpers import same_weights, steady, train_in


def test_checkpoints_take_a_small_share_of_the_time(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch
):
    written, original = [], loop.write_checkpoint
    monkeypatch.setattr(loop, "write_checkpoint", lambda *a: written.append(a[3]["step"]) or original(*a))
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", 1e6)
    train_in(tmp_path / "often", make_config(steps=4, score_every=2), shapes_data)
    assert set(written) == {0, 1, 2, 3, 4}
    written.clear()
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", 1e-6)
    train_in(tmp_path / "seldom", make_config(steps=4, score_every=2), shapes_data)
    assert set(written) <= {0, 2, 4}


def test_a_folder_of_another_configuration_is_refused_by_field(
    make_config, shapes_data, tmp_path, light_scores
):
    train_in(tmp_path, make_config(), shapes_data)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(ReproError, match="recipe.beta2 was 0.999 and is now 0.9"):
        train_in(tmp_path, make_config(beta2=0.9), shapes_data)
    assert (tmp_path / "run.json").read_bytes() == before
    (tmp_path / "run.json").unlink()
    with pytest.raises(ReproError, match="checkpoint.*seed was 0 and is now 1"):
        train_in(tmp_path, make_config(seed=1), shapes_data)


def test_a_run_that_goes_on_as_a_cuda_graph_steps_as_one(make_config, shapes_data, tmp_path, light_scores):
    """The optimiser's state holds how it stepped before: a graph needs one that a graph can hold."""
    config, run = make_config(), runs.Run(tmp_path)
    train_in(tmp_path, config, shapes_data)
    network = torch.nn.ParameterList(p.clone() for p in loop.build(config)[0].parameters())
    for graphed in (True, False):
        optimiser = torch.optim.Adam(network, capturable=graphed)
        checkpoint.restore(run, config, {"optimiser_g": optimiser}, {"status": "", "provenance": {}}, "fp32")
        assert [group["capturable"] for group in optimiser.param_groups] == [graphed]
        assert optimiser.state[network[0]]["step"] == config.preset.steps


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    make_config, shapes_data, tmp_path, light_scores, caplog
):
    straight = train_in(tmp_path / "straight", make_config(), shapes_data)
    whole = (tmp_path / "straight" / "checkpoint.pt").read_bytes()
    for damaged in (
        whole[:1000],
        b"",
        whole[:5000] + b"x" + whole[5001:],
        None,
    ):  # None: killed between the two renames
        folder = tmp_path / "damaged"
        train_in(folder, make_config(), shapes_data)
        (folder / "run.json").unlink()
        (
            (folder / "checkpoint.pt").unlink()
            if damaged is None
            else (folder / "checkpoint.pt").write_bytes(damaged)
        )
        caplog.clear()
        assert steady(train_in(folder, make_config(), shapes_data)) == steady(straight)
        same_weights(folder, tmp_path / "straight")
        assert damaged is None or f"{folder / 'checkpoint.pt'} is damaged" in caplog.text
        # set aside, or it would take the sound one's place at the next write
        assert damaged is None or (folder / "checkpoint.damaged").read_bytes() == damaged
    (folder / "run.json").unlink()
    for name in ("checkpoint.pt", "previous.pt"):
        (folder / name).write_bytes(b"nonsense")
    with pytest.raises(ReproError, match="Every checkpoint.*is damaged.*delete the folder"):
        train_in(folder, make_config(), shapes_data)


def test_a_checkpoint_that_carries_code_is_refused_and_the_code_not_run(
    make_config, shapes_data, tmp_path, light_scores
):
    import io
    import zlib

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    buffer = io.BytesIO()
    torch.save({"config": Hostile()}, buffer)
    data = buffer.getvalue()
    (tmp_path / "checkpoint.pt").write_bytes(zlib.crc32(data).to_bytes(4, "little") + data)
    with pytest.raises(ReproError, match="Every checkpoint.*damaged"):
        train_in(tmp_path, make_config(), shapes_data)
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_leaves_the_last_good_files(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    runs.write_atomically(path, b"good")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        runs.write_atomically(path, b"half")
    assert path.read_bytes() == b"good" and list(tmp_path.iterdir()) == [path]
