"""What ends a run before its last step."""

import math

import pytest

from repro import runs
from repro.training import stop


def test_a_signal_ends_a_score_in_its_middle_and_nothing_after_it():
    request = stop.StopRequest(math.inf)
    with request.heard_at_once(), pytest.raises(runs.Interrupted):
        request.hear()
    request.hear()
    assert request()


def scored(*fids, diversity=1.0):
    return [{"step": i, "fid": fid, "diversity": diversity} for i, fid in enumerate(fids)]


def test_when_a_run_has_collapsed():
    assert stop.collapse(scored(900)) is None and stop.collapse(scored(900, 400, 799)) is None
    assert stop.collapse(scored(400, 900)) is None  # one bad score may pass
    assert stop.collapse(scored(400, 900, 700, 900)) is None
    assert "FID past 2 times its best" in stop.collapse(scored(400, 900, 801))
    assert "no longer differ" in stop.collapse(scored(400, diversity=0.04))
