"""The generated parts of the project's own pages, and the answer in README.md."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from .. import claims, paper, runs
from ..analysis import setting, tables
from ..analysis.answer import answers, leading
from ..analysis.findings import at_noise_in_words
from ..analysis.plan import read as read_plan
from ..analysis.verdicts import NOT_TRIED, by_all_seeds, verdicts
from ..errors import ReproError, choose
from ..studies.study import Study
from . import figures, forests, learned, pages

ANSWER = "answer.png"  # in results/: the comparisons that the answer rests on

PAGES = ("README.md", "docs/learned.md", "docs/recipes.md")
BEGIN, END = "<!-- generated: ", "<!-- end of generated -->"
PART = re.compile(rf"{BEGIN}([^>]+) -->.*?{END}", re.DOTALL)  # what to generate, and what stands there


def renew(project: Path) -> None:
    """Write the pages of results/, and the generated parts of the project's own pages, those that are
    there.
    """
    if shown := judged(pages.studies(project / "results")):
        figures.save(forests.on_attention(shown), project / "results" / ANSWER)
    for path, text in texts(project).items():
        runs.write_atomically(path, text.encode())


def reread(project: Path) -> dict[str, bool]:
    """For each of the pages that `renew` writes whether it says what the runs say, by path."""
    return {
        str(path.relative_to(project)): path.exists() and path.read_text() == text
        for path, text in texts(project).items()
    }


def texts(project: Path) -> dict[Path, str]:
    """The pages that `renew` writes, by path. Raises ReproError for a part of a page without its end."""
    found, studies = pages.texts(project / "results"), pages.studies(project / "results")
    for page in PAGES:
        if (path := project / page).exists():
            text = path.read_text()
            if not text.count(BEGIN) == text.count(END) == len(PART.findall(text)):
                raise ReproError(f"{path.name}: every {BEGIN}...--> needs a {END} of its own.")
            found[path] = PART.sub(lambda part: _generated(part[1], studies), text)
    return found


def _generated(part: str, studies: list[Study]) -> str:
    """A part of a page between its markers, by its name and what it is to be of. Raises ReproError for a name
    that is no part's.
    """
    name, *of = part.split()
    make = PARTS[choose("generated part of a page", name, PARTS)]
    return "\n\n".join([f"{BEGIN}{part} -->", *make(studies, *of), END])


def answer(studies: list[Study]) -> list[str]:
    """For the first screen: whether attention helps, a picture of the comparisons that say so, samples of the
    longest study, and a verdict on each claim; of studies with a plan.
    """
    shown = judged(studies)
    if not shown:
        return ["No study with a plan is reported yet, so no claim has a verdict."]
    longest = max(shown, key=lambda study: (study.preset.steps, study.preset.channels)).preset
    return [
        answers(shown),
        f"![Gains in FID with intervals, by claim and study](results/{ANSWER})",
        f"![Samples, a column a class: real images, no block, attention, residual block]"
        f"(results/{longest.name}/strip.jpg)",
        f"The first image a class of `{longest.name}`, seed 0, not selected.",
        re.sub(" +", " ", re.sub("--+", "--", tables.to_markdown(_verdicts(shown)))),  # GitHub pads it itself
        "The studies:",
        "\n".join(_study(study) for study in shown),
        *_waiting(shown[0].out),
    ]


def judged(studies: list[Study]) -> list[Study]:
    """Those that have a plan and are reported, those that answer first."""
    found = [study for study in studies if (study.folder / "report.csv").exists() and read_plan(study)]
    first = leading(found) if found else []
    return first + [study for study in found if study not in first]


def _waiting(results: Path) -> list[str]:
    """The studies of `pages.planned` without links and numbers, for the room of a first screen."""
    names = [re.sub(r"\[(.*?)\]\(.*?\)|( \(.*\))", r"\1", line) for line in pages.planned(results)]
    return [f"[Not judged yet](results/README.md): {'; '.join(names)}."] if names else []


def _verdicts(shown: list[Study]) -> pd.DataFrame:
    """A line a claim: the paper's statement, and each verdict with the studies that it is of."""
    found = {study: verdicts(study).set_index("claim")["verdict"] for study in shown}
    latest = {study: by_all_seeds(study) for study in shown}
    return pd.DataFrame(
        {
            "claim": c.name,
            "the paper says": c.statement,
            "verdict here": _by_verdict(
                {
                    f"`{study.preset.name}`" + learned.beside(latest[study], c.name): of[c.name]
                    for study, of in found.items()
                }
            ),
        }
        for c in claims.CLAIMS
    )


def _by_verdict(found: dict[str, str]) -> str:
    """The verdicts on a claim by study, as each verdict with its studies."""
    of = {verdict: [name for name in found if found[name] == verdict] for verdict in found.values()}
    told = [f"{verdict}: {', '.join(names)}" for verdict, names in of.items() if verdict != NOT_TRIED]
    return "; ".join(told) or NOT_TRIED


def _study(study: Study) -> str:
    """A study as an item of a list: its scale, what sets it apart, and rows that are not clear of noise."""
    p, name = study.preset, study.preset.name
    data = setting.data_name(study)
    parts = [] if name.startswith(data.split("-")[0]) else [data]  # where the preset's name does not say it
    parts += [f"{p.resolution} px", f"width {p.channels}", f"{p.steps:,} updates"]
    parts += ["fresh seeds"] if p.seed_offset else []
    if p.tables == (paper.STRESS.name,):
        parts.append(f"learning rates times {' and '.join(map(str, paper.STRESS_TIMES))}")
    return f"* [`{name}`](results/{name}/report.md): {', '.join(parts)}. {at_noise_in_words(study)}".rstrip()


def ledger_table() -> str:
    """The ledger of recipes as Markdown."""
    ledger = paper.ledger().drop(columns="field").replace({"True": "yes", "False": "no", "None": "none"})
    return tables.to_markdown(ledger.rename(columns={"item": ""}))


PARTS = {"answer": answer, "recipes": lambda studies: [ledger_table()]} | learned.PARTS
