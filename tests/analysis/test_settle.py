"""The adaptive study: which runs are next, where it stops, and that a stop in the middle changes nothing."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from scipy import stats

from repro import claims, runs
from repro.analysis import comparisons, settle
from repro.analysis import plan as plans
from repro.analysis import statistics as s
from repro.cli import run as command
from repro.errors import ReproError
from repro.studies.study import Study

# FIDs to come, by row and seed: residual_16 is far worse; residual_8 spreads and is never settled;
# attention_8 equals it on average
TO_COME = {
    "attention_16": [100, 101, 102, 101, 100, 102, 101, 100, 102, 101],
    "residual_16": [104, 108, 106, 107, 105, 108, 104, 106, 107, 105],
    "attention_8": [60, 140, 90, 80, 120, 150, 70, 110, 95, 105],
    "residual_8": [140, 60, 80, 90, 150, 120, 70, 95, 110, 105],
}


@pytest.fixture
def recorded(study_of, declare, tmp_path, monkeypatch):
    """A study whose runs "train" by copying a record made up before. Returns the study and the list of what
    was trained.
    """

    def make(most_seeds=6, stop_after=None):
        source = study_of(TO_COME)
        study = declare(Study("rehearsal", executor="local", out=str(tmp_path / "adaptive")), most_seeds)
        raw = json.loads((study.folder / "plan.json").read_text())
        raw["comparisons"] = [of for of in raw["comparisons"] if of["claim"] == "C5"]
        raw["rows"] = list(TO_COME)
        (study.folder / "plan.json").write_text(json.dumps(raw))
        trained = []

        def train(study, tasks):
            for task in study.unfinished(tasks):
                if stop_after is not None and len(trained) >= stop_after:
                    raise runs.Interrupted("stopped")
                study.run(task.row, task.seed).write(source.run(task.row, task.seed).read())
                trained.append((task.row, task.seed))

        monkeypatch.setattr(settle, "train", train)
        return study, trained

    return make


def first_settled(better, worse, most, of=2):
    """By hand: the first look of two rows whose interval is clear of 0 or inside the margin."""
    import math

    for k in range(3, most + 1):
        a, b = np.log(better[:k]), np.log(worse[:k])
        va, vb = a.var(ddof=1) / k, b.var(ddof=1) / k
        half = stats.t.isf(
            s.nominal_levels(most)[k] / 2, (va + vb) ** 2 / ((va**2 + vb**2) / (k - 1))
        ) * math.sqrt(va + vb)
        low, high = b.mean() - a.mean() - half, b.mean() - a.mean() + half
        if low > 0 or -math.log(1.1) < low and high < math.log(1.1):
            return k
    return None


def test_it_stops_where_the_bound_says(recorded):
    """attention_16 and residual_16 are settled at the look that the formulae give; the other pair goes on to
    the most seeds.
    """
    study, trained = recorded()
    settle.until_settled(study, None, lambda line: None)
    k = first_settled(TO_COME["attention_16"], TO_COME["residual_16"], 6)
    assert k is not None and 3 <= k < 6
    seeds = {row: [seed for name, seed in trained if name == row] for row in TO_COME}
    assert seeds["attention_16"] == seeds["residual_16"] == list(range(k)) and seeds["attention_8"] == seeds[
        "residual_8"
    ] == list(range(6))
    outcomes = {j.comparison.rows: (j.outcome, j.at) for j in comparisons.judge(study)}
    assert outcomes == {
        ("residual_16", "attention_16"): (s.SUPPORTED, k),
        ("residual_8", "attention_8"): (s.OPEN, 0),
    }


@pytest.mark.parametrize("stop_after", [1, 5, 9])
def test_a_stop_in_the_middle_changes_nothing(recorded, stop_after):
    whole, everything = recorded()
    settle.until_settled(whole, None, lambda line: None)
    expected = [(j.outcome, j.at, j.seeds) for j in comparisons.judge(whole)]
    for row, seed in everything:
        whole.run(row, seed).json_path.unlink()
    study, trained = recorded(stop_after=stop_after)
    with pytest.raises(runs.Interrupted):
        settle.until_settled(study, None, lambda line: None)
    again, more = recorded()
    settle.until_settled(again, None, lambda line: None)
    assert sorted(trained + more) == sorted(everything)
    assert [(j.outcome, j.at, j.seeds) for j in comparisons.judge(again)] == expected


def test_fewer_seeds_may_be_asked_for_and_change_no_level(recorded):
    study, trained = recorded(most_seeds=10)
    settle.until_settled(study, 4, lambda line: None)
    assert max(seed for _, seed in trained) == 3
    first = comparisons.judge(study)[0]
    better, worse = (
        np.log(TO_COME[row][:3]) for side in (True, False) for row in first.comparison.side(side)
    )
    of_ten = stats.ttest_ind(worse, better, equal_var=False).confidence_interval(1 - s.nominal_levels(10)[3])
    look = first.looks["G updates"][0]
    assert (look.seeds, float(look.low), float(look.high)) == (3, *map(pytest.approx, of_ten))


def test_each_look_says_what_is_settled_what_is_open_and_what_it_may_take(recorded):
    said = []
    study, _ = recorded()
    settle.until_settled(study, None, said.append)
    assert said[0] == "Look at 0 seeds (at most 6): 0 of 2 comparisons settled."
    assert any("C5 supported at" in line for line in said) and any(
        "Open: C5 (residual_8, attention_8). At most 0.1 hours" in line for line in said
    )


def test_the_time_is_over_before_it_is_settled(recorded):
    study, trained = recorded()
    study.max_minutes = 0.0
    with pytest.raises(runs.Interrupted, match="The time is over with 4 runs of the next look to train"):
        settle.until_settled(study, None, lambda line: None)
    assert not trained


def test_every_look_has_the_minutes_that_are_left(recorded, monkeypatch):
    """An hour by a clock that each look's runs move on by 25 minutes: 60, 35 and 10 are left, then none."""
    study, _ = recorded()
    study.max_minutes, seconds, left = 60.0, [0.0], []
    monkeypatch.setattr(settle.time, "monotonic", lambda: seconds[0])
    copy = settle.train

    def train(study, tasks):
        left.append(study.max_minutes)
        seconds[0] += 25 * 60
        copy(study, tasks)

    monkeypatch.setattr(settle, "train", train)
    with pytest.raises(runs.Interrupted, match="The time is over"):
        settle.until_settled(study, None, lambda line: None)
    assert left == [60, 35, 10]


def test_without_a_plan_nothing_says_when_it_is_settled(tmp_path, capsys):
    with pytest.raises(ReproError, match="has no plan"):
        settle.until_settled(Study("rehearsal", out=str(tmp_path)), None, print)
    assert (
        command(["reproduce", "--until-settled", "--seeds", "3"]) == 2
        and "leave --seeds and --tables out" in capsys.readouterr().err
    )
    assert command(["reproduce", "--until-settled", "--executor", "none"]) == 2
    assert "never does" in capsys.readouterr().err
    assert (
        command(["reproduce", "--most-seeds", "3"]) == 2
        and "goes with --until-settled" in capsys.readouterr().err
    )


def test_a_plan_is_written_once_and_before_the_first_run(tmp_path, study_of, capsys, monkeypatch):
    out = str(tmp_path)
    assert command(["plan", "--preset", "cifar10-stress", "--most-seeds", "5", "--out", out]) == 0
    raw = json.loads((tmp_path / "cifar10-stress" / "plan.json").read_text())
    assert {c["claim"] for c in raw["comparisons"]} == {"C1", "C2"} and len(raw["comparisons"]) == 4
    assert (
        command(["plan", "--preset", "cifar10-stress", "--out", out]) == 2
        and "exists" in capsys.readouterr().err
    )
    study_of({"none": [100]})
    assert (
        command(["plan", "--preset", "rehearsal", "--out", out]) == 2
        and "holds runs already" in capsys.readouterr().err
    )
    assert (
        command(["plan", "--preset", "cifar10", "--most-seeds", "2", "--out", out]) == 2
        and "at least 3" in capsys.readouterr().err
    )
    monkeypatch.setattr(runs, "PROJECT", tmp_path / "project")
    shutil.copytree(tmp_path / "rehearsal", tmp_path / "project" / "outputs" / "rehearsal")
    for words in ([], ["--out", "results/"]):
        assert command(["plan", "--preset", "rehearsal", *words]) == 2  # where runs are trained by default
        assert "outputs/rehearsal holds runs already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong, said",
    [
        (dict(measure="endpoints"), "is not a plan"),
        (dict(metric="fids"), "is not a plan"),
        (dict(better=("atention_16",)), "Did you mean 'attention_16'"),
    ],
)
def test_a_misspelt_claim_ends_before_a_plan_is_written(wrong, said, tmp_path, capsys, monkeypatch):
    comparison = claims.Comparison(("attention_16",), ("none",))
    claim = claims.Claim("C9", "A claim.", (dataclasses.replace(comparison, **wrong),))
    monkeypatch.setattr(claims, "CLAIMS", (claim,))
    assert command(["plan", "--preset", "cifar10", "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


C7 = {"claim": "C7", "measure": "attention", "row": "attention_16", "block": "G"}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"rows": ["nosuch"]}, "names rows that do not exist (nosuch)"),
        ({"preset": "smoke"}, "is the plan of preset smoke"),
        ({"first_look": 11}, "looks first at 11 seeds and takes 10 at most"),
        ({"comparisons": [C7 | {"paired": True}]}, "pairs the runs of a comparison of attention"),
        ({"comparisons": [C7 | {"measure": "endpoint"}]}, "endpoint for C7 without gain, metric"),
        ({"rows": ["none"], "comparisons": [C7]}, "leave out (attention_16)"),
        ({"cost": {"none": 1.0}, "rows": ["none", "attention_16"], "comparisons": [C7]}, "leave out"),
        (
            {"rows": ["sagan"], "cost": {"sagan": 1.0}, "comparisons": [C7 | {"row": "sagan"}]},
            "names row sagan, whose run is that of attention_16",
        ),
        (
            {
                "rows": ["attention_64"],
                "cost": {"attention_64": 1.0},
                "comparisons": [C7 | {"row": "attention_64"}],
            },
            "names row attention_64, which does not exist at 32 px",
        ),
        (
            {
                "comparisons": [
                    {"claim": "C2", "measure": "decline", "metric": "fid", "gain": {"none": 0.5, "sn_d": 0.5}}
                ]
            },
            "a decline for C2 of several rows",
        ),
        ({"comparisons": []}, "is not a plan"),
        ({"comparisons": [C7 | {"measure": "endpoints"}]}, "is not a plan"),
        ({"comparisons": [C7 | {"budgets": ["G update"]}]}, "is not a plan"),
        ({"comparisons": [C7 | {"pared": True}]}, "is not a plan"),
        ({"margin": -1}, "is not a plan"),
        ({"schema": 9}, "is not a plan"),
    ],
)
def test_a_plan_that_is_wrong_is_one_sentence(study_of, declare, change, message):
    study = study_of({"none": [100]})
    with pytest.raises(ReproError) as error:
        plans.read(declare(study, **change))
    assert message in str(error.value) and "\n" not in str(error.value)
