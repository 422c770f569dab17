"""The generated parts of the page of what was learned, from made-up runs."""

import pytest

from repro.errors import ReproError
from repro.reports import learned, readme
from tests.analysis.helpers import GOOD, budgets, change, scaled


@pytest.fixture
def studies(study_of, declare, another):
    first = declare(study_of({"none": scaled(GOOD, 2), "attention_8": GOOD[::-1], "attention_16": GOOD}))
    return [first, another(first, "again", seed_offset=10)]


def test_a_part_is_of_what_its_marker_names(studies):
    part = readme._generated("comparisons rehearsal C4", studies)
    begin, shown, end = part.split("\n\n")
    assert begin == "<!-- generated: comparisons rehearsal C4 -->" and end == readme.END
    assert shown.startswith("* C4. Attention at 8 and 16 against no block: FID is 50.0 % lower, between")
    assert "(10 seeds): better" in shown or "(3 seeds): better" in shown
    both = readme._generated("comparisons C4 rehearsal again", studies)
    assert "* C4, `rehearsal`. Attention" in both and "* C4, `again`. Attention" in both
    for wrong, named in (("comparison rehearsal C4", "generated part"), ("comparisons rehearsl C4", "study")):
        with pytest.raises(ReproError, match=f"Unknown {named}.*Did you mean"):
            readme._generated(wrong, studies)


@pytest.mark.parametrize("lost", [readme.END, "<!-- generated: claims -->"])
def test_a_part_without_its_end_takes_nothing_of_the_page(lost, tmp_path):
    page = f"<!-- generated: claims -->{readme.END}\nby hand\n<!-- generated: claims -->{readme.END}\nlast"
    (tmp_path / "README.md").write_text(page)
    text = readme.texts(tmp_path)[tmp_path / "README.md"]
    assert text.count("No study with a plan yet.") == 2 and "\nby hand\n" in text and text.endswith("\nlast")
    (tmp_path / "README.md").write_text(page.replace(lost, "", 1))
    with pytest.raises(ReproError, match="README.md: every"):
        readme.texts(tmp_path)


def test_each_part_is_of_its_studies(studies):
    parts = {
        "seed-by-seed 3 rehearsal again": "`again`",
        "growth rehearsal C4": "The second less the first is",
        "findings rehearsal table1": "**C4, supported.**",
        "claims": "These are ",
    }
    for part, text in parts.items():
        assert text in readme._generated(part, studies), part


def test_a_dearer_step_favours_the_other_rows(study_of, declare):
    """SAGAN has an FID of 100 at step 4, the others at step 1: a step of four times the cost is level."""
    study = budgets(study_of, declare, sngan=[100, 70, 50, 40])
    (table,) = learned.at_costs([study], "rehearsal", "C6", "4", "1")
    _, _, dear, cheap = table.splitlines()
    assert dear.startswith("| 4 ") and dear.count("+0.0 %") == 2
    assert cheap.startswith("| 1 ") and cheap.count("| a factor of 0.40") == 2


def test_entropies_are_of_the_blocks_of_each_network(studies):
    first, _ = studies
    assert learned.entropies([first]) == ["No study with attention yet."]
    maps = lambda d, g: {"step": 4, "entropy": {"D 8x8": d, "G 8x8": g}}
    history = [{"step": 4, "loss_d": 1.0, "loss_g": 0.0, "gamma_g": {"8x8": 0.5}, "gamma_d": {"8x8": -0.25}}]
    for seed, d in ((0, 0.995), (1, 0.999)):
        change(first, ("attention_8", seed), attention=[maps(0.95, 0.9), maps(d, 0.7)], history=history)
    (table,) = learned.entropies([first])
    assert [cell.strip() for cell in table.splitlines()[2].split("|")[1:-1]] == [
        "`rehearsal`",
        "the released code's",
        "2",
        "99.50% to 99.90%",
        "95.00%",
        "70.00% to 70.00%",
        "70.00%",
        "0.25 to 0.25",
    ]
