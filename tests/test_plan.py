"""What a study declares before its first run: results/<preset>/plan.json."""

import json
import math

import pytest

from repro import paper, runs
from repro.config import get_preset
from repro.studies.study import Study, configure, rows

PLANS = sorted((runs.PROJECT / "results").glob("*/plan.json"))


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.parent.name)
def test_a_plan_is_of_its_study(path):
    plan = json.loads(path.read_text())
    preset = get_preset(plan["preset"])
    assert path.parent.name == preset.name and plan["schema"] == 1
    assert set(plan["rows"]) == {task.row for task in Study(preset.name, executor="none").tasks(preset.tables)}
    endpoint = plan["endpoint"]
    assert endpoint["step"] == preset.steps and endpoint["scores"] * preset.score_every <= preset.steps and endpoint["scale"] == "ln"
    assert plan["margin"] == pytest.approx(math.log(1.1), abs=1e-6) and 3 == plan["first_look"] <= plan["most_seeds"]
    assert plan["cost"].keys() == set(plan["rows"])
    assert all(cost == pytest.approx(0.6 + 0.4 * configure(rows()[row], preset).recipe.d_steps) for row, cost in plan["cost"].items())


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.parent.name)
def test_a_plans_comparisons_are_contrasts_of_its_rows(path):
    """A gain is in the claim's direction: its weights sum to 0, and the rows that the paper claims to be better have negative ones."""
    plan = json.loads(path.read_text())
    claims = {claim.name: claim for claim in paper.CLAIMS}
    assert {comparison["claim"] for comparison in plan["comparisons"]} <= claims.keys()
    for comparison in plan["comparisons"]:
        gain = comparison.get("gain", {})
        assert gain.keys() <= set(plan["rows"]) and sum(gain.values()) == pytest.approx(0), comparison
        claim = claims[comparison["claim"]]
        possible = [*claim.comparisons, *claim.analogue.get(get_preset(plan["preset"]).resolution, ())]
        better = {row for c in possible for row in c.better}
        named = {"sagan": "attention_32" if "attention_32" in plan["rows"] else "attention_16", "sn_g_d_ttur": "none"}
        better = {named.get(row, row) for row in better}
        assert not gain or {row for row, weight in gain.items() if weight < 0} <= better, comparison
