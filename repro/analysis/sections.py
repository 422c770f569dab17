"""Sections that notebooks share, as they display them: text that follows from the study. What the runs say
nothing about is left out.
"""

from __future__ import annotations

import pandas as pd

from .. import paper
from ..studies.study import Study
from . import findings, frames, gains, setting, tables
from .plan import read as read_plan
from .verdicts import UNITS, rests_on, show_comparisons, show_verdicts


def _markdown(*parts: str):
    from IPython.display import Markdown

    return Markdown("\n\n".join(part for part in parts if part))


def found(study: Study, notebook: str):
    """What the study found on the notebook's question, and where it holds."""
    return findings_of(findings.found(study, notebook), findings.where_it_holds(study, notebook))


def findings_of(sentences: list[str], limits: str = ""):
    """Sentences as a notebook begins with them."""
    lines = tables.listed(sentences)
    return _markdown("## What we found", lines or "Nothing yet: no run of these rows is scored.", limits)


def setup(study: Study, table: str = ""):
    """The study's scale in a table, with the seeds of a table's rows, and how its numbers are read."""
    consistency = (
        "*Consistency* says how well the two halves of a picture obey the symmetry of its class: 1 for real"
        " images, 0 for unrelated halves, below 0 where they follow the other symmetry. Convolutions learn"
        " the *mirrored* classes first, because pixels agree with their neighbours across the seam. In the"
        " *turned* classes each pixel's partner is far away."
    )
    return _markdown(
        tables.to_markdown(setting.setup(study, table)),
        "**How to read the numbers.** The paper's scores are for ImageNet at 128 pixels with Inception's"
        " features, ours for the setting above. Compare the direction and the order of rows, never a number"
        " of ours with one of the paper's. A ± is the standard deviation over training seeds; each seed is a"
        " model trained anew.",
        consistency if study.preset.dataset == "symmetric_shapes" else "",
    )


def table(study: Study, of: paper.Table):
    """A table for a reader, and the rows that it leaves out; or that it has no run here."""
    if not frames.records(study, of):
        return _markdown(f"*No run of “{of.title}” in this study.*")
    return _markdown(tables.to_markdown(tables.present(study, of)), tables.left_out(study, of))


def verdict(study: Study, *claims: str):
    """The verdicts on the named claims, or on all, with what they rest on, as lists."""
    how = (
        "A verdict follows from the runs and from the declared plan: which score counts, how large a"
        " difference counts, at how many seeds the study is looked at (`docs/statistics.md`)."
    )
    return _markdown(
        how if read_plan(study) else "", *show_verdicts(study, *claims), tables.listed(rests_on(study))
    )


def comparisons(study: Study):
    """The comparisons behind the verdicts, how their numbers are read, and the same by other scores; or that
    there are none.
    """
    frame = show_comparisons(study)
    if frame.empty:
        return _markdown("*No plan was declared, so nothing is compared.*")
    return _markdown(UNITS, tables.to_markdown(frame), *gains.show_by_other_scores(study, "###"))


def _with_table(heading: str, text: str, frame: pd.DataFrame):
    """A section with its table; None where the table is empty."""
    return None if frame.empty else _markdown(f"## {heading}", text, tables.to_markdown(frame))


def averaged(study: Study, of: paper.Table):
    """The scores of averaged weights beside those of the raw generator."""
    return _with_table(
        "Averaged weights",
        "Every run keeps an average of G's weights beside its training, which never sees it. Its batch-norm"
        " statistics are computed anew from its own samples. Both columns are of the last step.",
        tables.averaged(study, of),
    )


def extractors(study: Study, of: paper.Table):
    """Whether a second extractor orders the rows alike."""
    return _with_table(
        "Does the order depend on the extractor?",
        "A run's last samples are scored by a second extractor too, EfficientNet-Lite2. Compare the order of"
        " rows, not the numbers. Where a pair of rows changes its order, the extractor decides which of the"
        " two is better.",
        tables.extractors_agree(study, of),
    )


def threats(study: Study, table: str = ""):
    """What could make the findings wrong, with the seeds of a table's rows."""
    p = study.preset
    one = study.seeds == 1
    return _markdown(
        "## What could mislead",
        f"* **Budget.** {p.steps:,} updates show how models begin to learn. The paper trains for a million,"
        " and its own differences appear after hundreds of thousands. While scores still improve, a score at"
        " a fixed step rewards rows that learn fast.\n"
        f"* **Score.** {setting.definition(study)}. They order models, but need not order them as Inception"
        " does.\n"
        "* **Seeds.** "
        + (
            "One training seed has no interval: any difference here may be chance."
            if one
            else f"{setting.seeds(study, table)} training seeds give wide intervals. An interval with 0 in it"
            " is no proof of no effect: *no difference* needs the whole interval inside the margin."
        )
        + "\n* **Rows.** Learning rates are scaled alike for all rows and tuned for none: a row could gain"
        " from rates of its own.",
    )
