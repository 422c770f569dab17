"""The study's answer to whether attention helps, for the first screen of README and site."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import paper
from ..studies.study import Study
from . import setting
from .comparisons import Judged, judge
from .findings import uniform, where_it_holds
from .lottery import spreads_in_words
from .plan import read as read_plan
from .sentences import brief, without_outcome
from .statistics import OPEN
from .verdicts import verdicts


def answers(studies: Sequence[Study]) -> str:
    """The answer of the first study, with a line for each further one on whether attention helps there too: a
    list.
    """
    first, *others = studies
    elsewhere = [line for study in others for line in _elsewhere(study)]
    luck = " ".join(spreads_in_words(first)[:2])
    lines = [_answer(first), *uniform(first, [paper.TABLE1]), luck, where_it_holds(first), *elsewhere]
    return "\n".join(f"* {line}" for line in lines if line)


def _elsewhere(study: Study) -> list[str]:
    """Whether attention helps in another study, as one line; none where it was not tried."""
    p = study.preset
    own = [j for j in judge(study) if j.comparison.claim == "C4"]
    told = " ".join(brief(j, study) for j in own)
    scale = f"{setting.data_name(study)} at {p.resolution} pixels, base width {p.channels}"
    where = "Asked again on fresh seeds" if p.seed_offset else "At another scale"
    verdict = verdicts(study, "C4")["verdict"].item()
    return (
        [f"**{where} ({scale}): {verdict}.** {told} Preset `{p.name}`, {p.steps:,} updates."] if told else []
    )


def _answer(study: Study) -> str:
    """Whether attention helps, by how much, how sure and what would tell more."""
    plan = read_plan(study)
    verdict = verdicts(study, "C4")["verdict"].item()
    own = [j for j in judge(study) if j.comparison.claim == "C4"]
    told = [text for j in own for text in (without_outcome(j, plan, study), cost_of_more(study, j))]
    return " ".join([f"**Does attention help? {verdict.capitalize()}.**", *filter(None, told)])


def cost_of_more(study: Study, j: Judged) -> str:
    """How long the seeds take that an open comparison needs, by the runs so far; "" where it needs none."""
    if j.outcome != OPEN or not j.needed:
        return ""
    made = [
        [study.run(row, seed).read()["provenance"] for seed in range(j.seeds)] for row in j.comparison.rows
    ]
    if any(of["device"] != "cpu" for of_row in made for of in of_row):  # which other runs may have shared
        return ""
    seconds = [np.mean([of["wall_seconds"] for of in of_row]) for of_row in made]
    hours = (j.needed - j.seeds) * sum(seconds) / 3600
    return f"That is about {hours:.0f} hour{'s' if round(hours) != 1 else ''} of one processor core."
