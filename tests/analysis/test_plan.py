"""What a study declares before its first run: results/<preset>/plan.json."""

import json
import math

import pytest

from repro import runs
from repro.analysis import drafting
from repro.analysis import plan as plans
from repro.presets import get_preset
from repro.studies.study import Study
from repro.training import stop

PLANS = sorted((runs.PROJECT / "results").glob("*/plan.json"))
LATER = ()  # claims that came after the committed plans


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.parent.name)
def test_a_plan_is_of_its_study(path):
    """Rows, comparisons, margin and cost are those that the paper's claims give at the preset; only the rest
    is chosen. A study of pairs asks one question again, with a margin and a first look of its own.
    """
    raw = json.loads(path.read_text())
    preset = get_preset(path.parent.name)
    drafted = drafting.draft(
        preset, raw["most_seeds"], raw["endpoint"]["scores"], raw["declared"], raw["pilot"]
    )
    # a row that came later is in the study and not in the plan
    assert set(raw["rows"]) <= set(drafted["rows"])
    drafted["comparisons"] = [c for c in drafted["comparisons"] if c["claim"] not in LATER]
    pairs = [comparison for comparison in raw["comparisons"] if comparison.pop("paired", False)]
    assert raw["margin"] == pytest.approx(math.log(1.05 if pairs else 1.1), abs=1e-5)
    drafted["cost"] = {row: drafted["cost"][row] for row in raw["rows"]}
    if pairs:
        assert all(comparison in drafted["comparisons"] for comparison in raw["comparisons"])
        drafted |= {name: raw[name] for name in ("comparisons", "margin", "first_look")}
    differs = [name for name in drafted if name != "rows" and raw[name] != drafted[name]]
    assert not differs
    assert all(
        preset.is_scored(raw["endpoint"]["step"] - i * preset.score_every)
        for i in range(raw["endpoint"]["scores"])
    )
    assert plans.read(Study(preset.name, executor="none", out="results")).comparisons


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.parent.name)
def test_a_plans_comparisons_are_contrasts_of_its_rows(path):
    """The weights of a gain sum to 0, and no side is empty."""
    for comparison in plans.read(Study(path.parent.name, executor="none", out="results")).comparisons:
        if comparison.measure != "attention":
            assert (
                sum(comparison.gain.values()) == pytest.approx(0)
                and comparison.side(True)
                and comparison.side(False)
            )


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.parent.name)
def test_the_declared_rule_of_collapse_is_the_loops(path):
    rule = json.loads(path.read_text())["collapse"]
    assert (rule["diversity_below"], rule["fid_times_best"], rule["scores_in_a_row"]) == (
        stop.COLLAPSE_DIVERSITY,
        stop.COLLAPSE_FID,
        2,
    )
    score = lambda fid, diversity=1.0: {"fid": fid, "diversity": diversity}
    assert stop.collapse([score(100), score(201), score(201)]) and not stop.collapse([score(100), score(201)])
    assert stop.collapse([score(100, 0.049)]) and not stop.collapse([score(100), score(199), score(199)])
