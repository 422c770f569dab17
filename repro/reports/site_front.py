"""The site's landing page, and the first page of each study: the answer, the plot of the comparisons, a card
a claim, samples.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd
from bs4 import BeautifulSoup
from markupsafe import Markup

from .. import paper, runs
from ..analysis import answer, frames, tables
from ..analysis.verdicts import EXPLORATORY, NOT_TRIED, rests_on
from ..studies.study import Study, run_name
from . import pages, readme, site_html


@cache
def reported() -> list[Study]:
    """The committed studies, those with the most runs first."""
    return pages.studies(runs.PROJECT / "results")


def landing() -> tuple[Path, str, str]:
    """Path that its links start from, title and HTML of the first page."""
    judged = readme.judged(reported())
    shown = answer.leading(judged)[-1:] if judged else reported()[:1]
    return _made(
        "index.md",
        title="Self-Attention GAN, reproduced",
        about=_about(),
        answer=Markup(site_html.of_markdown(answer.answers(judged) if judged else "")),
        plots=[_plot_of_all()] if judged else [],
        cards=_cards(judged),
        samples=[(study.preset.name, _sheets(study, [paper.TABLE1])) for study in shown],
        studies=[
            (study.preset.name, Markup(site_html.of_markdown(pages.in_a_line(study)))) for study in reported()
        ],
    )


def of_study(study: Study) -> tuple[Path, str, str]:
    """Path that its links start from, title and HTML of a study's first page."""
    judged = [study] if (study.folder / "verdicts.json").exists() else []
    return _made(
        f"results/{study.preset.name}/index.md",
        title=f"Study {study.preset.name}",
        about=Markup(site_html.of_markdown(f"{pages.in_a_line(study)}\n\n{tables.listed(rests_on(study))}")),
        plots=[_plot(one) for one in judged],
        cards=_cards(judged),
        samples=[(study.preset.name, _sheets(study, paper.TABLES.values()))],
    )


def _made(path: str, **parts) -> tuple[Path, str, str]:
    place = runs.PROJECT / path
    body = site_html.TEMPLATES.get_template("site_front.html").render(parts, up="../" * path.count("/"))
    return place, *site_html.finished(body, place)


def _about() -> Markup:
    """The README's first paragraph."""
    text = (runs.PROJECT / "README.md").read_text()
    return Markup(BeautifulSoup(site_html.of_markdown(text), "html.parser").find("p"))


def _plot_of_all() -> dict[str, str]:
    return {"src": f"results/{readme.ANSWER}", "alt": site_html.described("on_attention")}


def _plot(study: Study) -> dict[str, str]:
    """The study's picture: its answer or, of a study without one, which runs survive the stress."""
    name = study.preset.name
    picture, drawn_by = "answer.png", "comparisons"
    if not (study.folder / picture).exists():
        picture, drawn_by = f"{paper.STRESS.notebook}.png", "survival"
    return {
        "src": f"results/{name}/{picture}",
        "alt": f"{site_html.described(drawn_by)} Preset {name}.",
        "study": name,
    }


def _cards(judged: list[Study]) -> list[dict]:
    """A card a claim: what the paper says, and of each study that tries it verdict and finding."""
    found = {study.preset.name: pd.read_csv(study.folder / "report.csv") for study in judged}
    cards = {}
    for name, table in found.items():
        for line in table[table["verdict"] != NOT_TRIED].itertuples():
            card = cards.setdefault(line.claim, {"claim": line.claim, "statement": line.statement, "of": []})
            tone = line.verdict.removesuffix(EXPLORATORY).replace(" ", "-")
            card["of"].append({"study": name, "verdict": line.verdict, "tone": tone, "finding": line.finding})
    return [cards[claim] for claim in sorted(cards)]


def _sheets(study: Study, tables) -> list[dict[str, str]]:
    """The sheet of real images and that of each row of the tables at training seed 0."""
    folder = f"results/{study.preset.name}"
    found = {"real images": (study.real_path, None)}
    for row in (row for table in tables for row in table.rows):
        if frames.unavailable(row, study.preset) is None:
            name = run_name(row, study.preset)
            found.setdefault(row.label, (study.run(name, 0).samples_path, f"{folder}/runs/{name}/README.md"))
    return [
        {
            "label": label,
            "src": str(path.relative_to(runs.PROJECT)),
            "page": page if page and (runs.PROJECT / page).exists() else "",
        }
        for label, (path, page) in found.items()
        if path.exists()
    ]
