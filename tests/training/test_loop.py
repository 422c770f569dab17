"""The training loop: its record, and that stopping it changes nothing."""

import json
import math
import os
import signal

import pytest

from repro import provenance, runs
from repro.errors import ReproError
from repro.networks import losses
from repro.training import checkpoint, loop, stop
from tests.training.helpers import same_weights, steady, train_in


def test_the_record_of_a_run(make_config, shapes_data, tmp_path, light_scores):
    record = train_in(tmp_path, make_config("attention_16"), shapes_data, "attention_16")
    assert [s["step"] for s in record["scores"] if "fid_lite2" in s] == [4] and record["final"][
        "kid_by_class"
    ] == {"a": 0.5}
    assert json.loads((tmp_path / "run.json").read_text()) == record
    assert record["status"] == "complete" and record["step"] == 4
    assert [h["step"] for h in record["history"]] == [1, 2, 3, 4] and [
        s["step"] for s in record["scores"]
    ] == [2, 4]
    assert record["history"][-1]["gamma_g"]["16x16"] != 0 and record["history"][-1]["gamma_d"]["16x16"] != 0
    assert record["final"] == record["scores"][-1] and record["best"]["fid"] == min(
        s["fid"] for s in record["scores"]
    )
    assert record["provenance"]["data_fingerprint"] == shapes_data.fingerprint
    assert record["provenance"]["images_per_second"] > 0 and (tmp_path / "samples.jpg").exists()
    assert str(tmp_path) not in (tmp_path / "run.json").read_text()  # no path of this machine
    stamp = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    # finished: nothing is trained again
    assert train_in(tmp_path, make_config("attention_16"), shapes_data) == record
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"ema_decay": 0.5}, {"d_steps": 2, "flip": True}])
@pytest.mark.parametrize("stop_at", [1, 3])
def test_a_stopped_run_ends_in_the_same_bits(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch, changes, stop_at
):
    config = make_config("attention_16", **changes)
    straight = train_in(tmp_path / "straight", config, shapes_data)

    original = loop.update_g

    calls = []

    def ask_to_stop(*a):
        calls.append(a)
        if len(calls) == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*a)

    monkeypatch.setattr(loop, "update_g", ask_to_stop)
    with pytest.raises(runs.Interrupted, match=f"stopped at step {stop_at} of 4"):
        train_in(tmp_path / "stopped", config, shapes_data)
    assert runs.Run(tmp_path / "stopped").read()["status"] == "interrupted"
    monkeypatch.setattr(loop, "update_g", original)
    resumed = train_in(tmp_path / "stopped", config, shapes_data)
    assert steady(resumed) == steady(straight)
    same_weights(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.parametrize("moment", ["sample", "scorer"])
def test_a_save_comes_before_a_score_and_a_stop_is_heard_during_one(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch, moment
):
    config = make_config("attention_16", steps=4, score_every=2)
    straight = train_in(tmp_path / "straight", config, shapes_data)
    ended = []

    def stopped_in(original):
        def call(*a, **k):
            if not ended:
                os.kill(os.getpid(), signal.SIGTERM)
                ended.append("heard too late")  # a handler runs before the next line of Python
            return original(*a, **k)

        return call

    with monkeypatch.context() as during:
        during.setattr(
            *(
                (loop, "sample", stopped_in(loop.sample))
                if moment == "sample"
                else (loop.Scorer, "__call__", stopped_in(loop.Scorer.__call__))
            )
        )
        with pytest.raises(runs.Interrupted, match="stopped at step 2 of 4"):
            train_in(tmp_path / "stopped", config, shapes_data)
    assert ended == []
    record = runs.Run(tmp_path / "stopped").read()
    assert (
        record["status"] == "interrupted"
        and record["step"] == 2
        and record["scores"] == []
        and record["attention"] == []
    )
    assert steady(train_in(tmp_path / "stopped", config, shapes_data)) == steady(straight)
    same_weights(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.parametrize("end", ["collapsed", "diverged", "complete"])
def test_a_run_killed_between_its_checkpoint_and_its_record_keeps_its_end(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch, end
):
    if end == "collapsed":
        monkeypatch.setattr(stop, "COLLAPSE_DIVERSITY", 1.5)
    if end == "diverged":
        original, calls = losses.hinge_d, []
        monkeypatch.setattr(
            losses,
            "hinge_d",
            lambda *a: calls.append(1) or original(*a) * (math.nan if len(calls) == 3 else 1),
        )
    record = train_in(tmp_path, make_config(), shapes_data)
    assert record["status"] == end and runs.unstable(record) == (end != "complete")
    # as it stood before
    (tmp_path / "run.json").write_text(json.dumps(record | {"status": "running", "error": None}))
    stamp = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    assert steady(train_in(tmp_path, make_config(), shapes_data)) == steady(record)
    assert (
        steady(runs.Run(tmp_path).read()) == steady(record)
        and (tmp_path / "checkpoint.pt").stat().st_mtime_ns == stamp
    )


def test_the_last_step_is_scored_with_further_sampling_seeds(
    make_config, shapes_data, tmp_path, light_scores
):
    record = train_in(tmp_path, make_config(resamples=2), shapes_data)
    assert [r["sampling_seed"] for r in record["resampled"]] == [2019, 2020]
    assert len({record["final"]["fid"], *(r["fid"] for r in record["resampled"])}) == 3


def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch
):
    calls, original = [], losses.hinge_d
    monkeypatch.setattr(
        losses, "hinge_d", lambda *a: calls.append(1) or original(*a) * (math.nan if len(calls) == 3 else 1)
    )
    record = train_in(tmp_path, make_config(), shapes_data)
    assert record["status"] == "diverged" and record["step"] == 3 and "step 3" in record["error"]
    assert [s["step"] for s in record["scores"]] == [2]
    assert train_in(tmp_path, make_config(), shapes_data) == record  # a result, not trained again


def test_samples_that_no_longer_differ_end_the_run_as_collapsed(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch
):
    monkeypatch.setattr(stop, "COLLAPSE_DIVERSITY", 1.5)
    record = train_in(tmp_path, make_config(), shapes_data)
    assert record["status"] == "collapsed" and record["step"] == 2 and "no longer differ" in record["error"]


def test_a_fid_past_its_bound_ends_the_run_and_the_best_checkpoint_stays(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch
):
    fids = iter([50, 40, 90, 100, 60])  # the last one of the averaged weights
    monkeypatch.setattr(loop.Scorer, "__call__", lambda *_: {"fid": next(fids), "is": 1.0, "diversity": 1.0})
    record = train_in(tmp_path, make_config(steps=5, score_every=1), shapes_data)
    assert record["status"] == "collapsed" and record["step"] == 4 and "FID past 2 times" in record["error"]
    assert (
        json.loads(checkpoint.read_checkpoint(tmp_path / "best.pt")["record"])["step"]
        == record["best"]["step"]
        == 2
    )
    (tmp_path / "run.json").unlink(), (tmp_path / "best.pt").unlink()
    # killed before step 4 was scored: the best one is not the newest
    (tmp_path / "previous.pt").replace(tmp_path / "checkpoint.pt")
    fids = iter([30, 30, 30])
    assert train_in(tmp_path, make_config(steps=5, score_every=1), shapes_data)["best"]["step"] == 4
    assert json.loads(checkpoint.read_checkpoint(tmp_path / "best.pt")["record"])["step"] == 4


def test_steps_before_the_first_one_to_score_are_not_scored(make_config, shapes_data, tmp_path, light_scores):
    config = make_config(steps=5, score_every=2, score_from=3)
    assert [score["step"] for score in train_in(tmp_path, config, shapes_data)["scores"]] == [4, 5]
    assert [step for step in range(6) if make_config(steps=5, score_every=2).preset.is_scored(step)] == [
        2,
        4,
        5,
    ]


def test_a_run_that_would_be_scored_otherwise_is_refused(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch
):
    """Such as by fewer references: earlier scores would be taken for scores by the new definition."""
    config, original, calls = make_config(score_every=2), loop.update_g, []

    def stop_at_step_3(*a):
        calls.append(a)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*a)

    monkeypatch.setattr(loop, "update_g", stop_at_step_3)
    with pytest.raises(runs.Interrupted, match="step 3"):
        train_in(tmp_path, config, shapes_data)
    monkeypatch.setattr(loop.Scorer, "definition", {"extractor": "none", "references": 7})
    with pytest.raises(ReproError, match="has scores by another definition .* give it the same --data"):
        train_in(tmp_path, config, shapes_data)


def test_a_run_of_two_code_revisions_names_both(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch
):
    monkeypatch.setattr(
        provenance, "code_revision", lambda: {"commit": "first", "dirty": False, "sources": "1"}
    )
    monkeypatch.setattr(provenance, "processor", lambda: "first")
    with pytest.raises(runs.Interrupted):
        loop.train(make_config(), shapes_data, runs.Run(tmp_path), "none", max_minutes=0)
    monkeypatch.setattr(
        provenance, "code_revision", lambda: {"commit": "second", "dirty": False, "sources": "2"}
    )
    monkeypatch.setattr(provenance, "processor", lambda: "second")
    record = train_in(tmp_path, make_config(), shapes_data)
    made = record["provenance"]
    of = provenance.made_by(record)
    assert (of["code"], of["processor"], of["precision"]) == (["1", "2"], ["first", "second"], ["fp32"])
    again = {"provenance": made | {"code": made["earlier_code"][0] | {"commit": "another"}}}
    assert provenance.made_by(again)["code"] == ["1"]  # another commit of equal sources
    assert made["code"]["commit"] == "second" and [code["commit"] for code in made["earlier_code"]] == [
        "first"
    ]
