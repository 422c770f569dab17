"""The study's answer to whether attention helps, for the first screen of README and site."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import paper
from ..studies.study import Study
from .comparisons import Judged, judge
from .findings import uniform, where_it_holds
from .lottery import spreads_in_words
from .plan import read as read_plan
from .sentences import brief, no_difference, papers_change, remark, without_outcome
from .statistics import NO_DIFFERENCE, OPEN
from .verdicts import verdicts


def answers(studies: Sequence[Study]) -> str:
    """What the `leading` ones of the studies found, as a list."""
    *again, first = leading(studies)
    lines = [_answer(first)]
    for study in again:
        lines = [f"{_answer(study)} Preset `{study.preset.name}`, on fresh seeds."]
        lines += [_prompted(first)]
    luck = " ".join(spreads_in_words(first)[:2])
    lines += [
        *_beside_residual_blocks(first),
        *uniform(first, [paper.TABLE1]),
        luck,
        where_it_holds(first, seeds=False)
        + (f" All but the first are of `{first.preset.name}`." if again else ""),
        *_at_larger_images(studies, first),
    ]
    return "\n".join(f"* {line}" for line in lines if line)


def leading(studies: Sequence[Study]) -> list[Study]:
    """The studies that answer, of those with the most runs first: one that asked the first one's question
    again on fresh seeds, where there is one, and the first.
    """
    first = next((study for study in studies if not study.preset.seed_offset), studies[0])
    return [*[study for study in studies if study is not first and _asked_again(study)][:1], first]


def _prompted(study: Study) -> str:
    """What an earlier study had found on whether attention helps."""
    found = " ".join(brief(j, study) + remark(j) for j in _on_attention(study))
    verdict = verdicts(study, "C4")["verdict"].item()
    return f"**An earlier study, `{study.preset.name}`, prompted this one. Its verdict: {verdict}.** {found}"


def _beside_residual_blocks(study: Study) -> list[str]:
    """Whether an effect is attention's own, as one line; none where it was not tried."""
    own = [j for j in judge(study) if j.comparison.claim == "C5" and j.seeds]
    mixed = len({j.outcome for j in own}) > 1
    told = " ".join(brief(j, study, outcome=mixed) for j in own)
    verdict = verdicts(study, "C5")["verdict"].item().capitalize()
    asked = "Is attention better than a residual block of as many parameters?"
    return [f"**{asked} {verdict}.** {told}"] if told else []


def _on_attention(study: Study) -> list[Judged]:
    """What the study's runs say on whether attention helps."""
    return [j for j in judge(study) if j.comparison.claim == "C4"]


def _at_larger_images(studies: Sequence[Study], first: Study) -> list[str]:
    """What the study of larger images with the most seeds found, as one line; none where there is none."""
    larger = [of for of in studies if of.preset.resolution > first.preset.resolution]
    judged = [(study, j) for study in larger for j in _on_attention(study) if j.looks]
    if not judged:
        return []
    study, j = max(judged, key=lambda of: of[1].seeds)
    found = f"{brief(j, study)}{papers_change(j, read_plan(study))}"
    return [f"**At {study.preset.resolution} px, in `{study.preset.name}`: {j.outcome}.** {found}"]


def _asked_again(study: Study) -> bool:
    """Whether a study of fresh seeds has enough of them for its first look."""
    looked = [j.seeds >= read_plan(study).first_look for j in _on_attention(study)]
    return bool(study.preset.seed_offset and looked) and all(looked)


def _answer(study: Study) -> str:
    """Whether attention helps, by how much, how sure and what would tell more."""
    plan = read_plan(study)
    verdict = verdicts(study, "C4")["verdict"].item()
    verdict = verdict.replace(NO_DIFFERENCE, no_difference(plan))
    told = [
        text
        for j in _on_attention(study)
        for text in (without_outcome(j, plan, study), cost_of_more(study, j))
    ]
    return " ".join(
        [f"**Does attention help? After {study.preset.steps:,} updates: {verdict}.**", *filter(None, told)]
    )


def cost_of_more(study: Study, j: Judged) -> str:
    """How long the further seeds take that an open comparison needs, by its runs; "" where it needs none."""
    if j.outcome != OPEN or not j.needed:
        return ""
    made = [
        [study.run(row, seed).read()["provenance"] for seed in range(j.seeds)] for row in j.comparison.rows
    ]
    if any(of["device"] != "cpu" for of_row in made for of in of_row):  # which other runs may have shared
        return ""
    seconds = [np.mean([of["wall_seconds"] for of in of_row]) for of_row in made]
    hours = (j.needed - j.seeds) * sum(seconds) / 3600
    return f"Seeds up to {j.needed} take about {hours:.0f} core-hour{'s' if round(hours) != 1 else ''}."
