"""The executed notebooks, the pages of results and the documentation as static HTML: no Jupyter, server or
network needed to read them.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from .. import paper, runs
from ..errors import ReproError
from . import site_front, site_html
from .files import FIGURES

SOURCES = ("README.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff", "docs", "results")
COPIED = {
    ".png",
    ".webp",
    ".svg",
    runs.PICTURE,
    ".json",
    ".csv",
    ".cff",
    ".safetensors",
    "",
}  # LICENSE has none
FRONT, RESULTS, DOCUMENTATION = "The study", "All results", "Documentation"
# of a study's pages, those that come first
ORDER = ("index", "report", *(t.notebook for t in paper.WITH_NOTEBOOK.values()), *FIGURES, "metrics")


@dataclass(frozen=True)
class Page:
    """One page: the file it is made of, its own place in the site, its part of the site, title and HTML."""

    source: Path
    target: Path
    part: str
    title: str
    body: str

    @property
    def label(self) -> str:
        """What lists of its part call it."""
        if self.source.name == "index.md":
            return "Overview"
        return "README" if self.target.name == "readme.html" else self.title.partition(", preset")[0]

    @property
    def is_run(self) -> bool:
        """Whether it shows the runs of one row."""
        return "runs" in self.target.parts

    def link(self, other: Page) -> str:
        """The way from here to another page."""
        return os.path.relpath(other.target, self.target.parent)


def build(to: Path) -> int:
    """Write README, docs/ and results/ as HTML into the folder `to`, with a landing page and a page a study,
    replacing what an earlier call wrote. Returns the number of pages.

    Raises ReproError when the folder holds anything else.
    """
    mark = to / ".repro-site"
    if to.exists() and any(to.iterdir()) and not mark.exists():
        raise ReproError(
            f"{to} is not empty and no site of an earlier call: choose another folder with --to."
        )
    shutil.rmtree(to, ignore_errors=True)
    files = [file for source in SOURCES for file in _files(runs.PROJECT / source)]
    for path in files:
        if path.suffix in COPIED:
            target = to / path.relative_to(runs.PROJECT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    front = [site_front.landing(), *map(site_front.of_study, site_front.reported())]
    made = [_page(path, title, body) for path, title, body in front]
    made += [_page(path, *site_html.of_file(path)) for path in files if _is_page(path)]
    pages = _in_order(made)
    parts = {part: list(of_part) for part, of_part in groupby(pages, key=lambda page: page.part)}
    for place, page in enumerate(pages):
        previous = pages[place - 1] if place else None
        following = pages[place + 1] if place + 1 < len(pages) else None
        text = site_html.TEMPLATES.get_template("site.html").render(
            page=page, parts=parts, home=pages[0], previous=previous, next=following
        )
        runs.write_atomically(to / page.target, text.encode())
    runs.write_atomically(mark, b"written by repro site\n")
    return len(pages)


def _files(source: Path) -> list[Path]:
    return [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())


def _is_page(path: Path) -> bool:
    """Whether a file becomes a page: a notebook has the table of the same name and more."""
    return path.suffix == ".ipynb" or (path.suffix == ".md" and not path.with_suffix(".ipynb").exists())


def _page(source: Path, title: str, body: str) -> Page:
    target = site_html.target(source)
    if target.parts[0] == "results":
        part = target.parts[1] if len(target.parts) > 2 else RESULTS
    else:
        part = FRONT if target.stem in ("index", "readme") else DOCUMENTATION
    return Page(source, target, part, title, body)


def _in_order(pages: list[Page]) -> list[Page]:
    """The landing page first, then each study (verdicts, tables, figures, runs), all results and docs/."""
    studies = [study.preset.name for study in site_front.reported()]
    studies += sorted({page.part for page in pages} - {FRONT, RESULTS, DOCUMENTATION, *studies})
    parts = [FRONT, *studies, RESULTS, DOCUMENTATION]

    def place(page: Page) -> tuple:
        stem = page.target.stem
        first = ORDER.index(stem) if stem in ORDER else len(ORDER)
        return parts.index(page.part), page.is_run, first, page.target

    return sorted(pages, key=place)
