"""The executed notebooks, the pages of results and the documentation as static HTML: no Jupyter and no
network needed to read them.
"""

from __future__ import annotations

import html
import os
import re
import shutil
from pathlib import Path

from .. import runs
from ..errors import ReproError

SOURCES = ("README.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff", "docs", "results")
COPIED = {".png", runs.PICTURE, ".json", ".csv", ".cff", ".safetensors", ""}  # LICENSE has none
STYLE = """
:root { color-scheme: light dark; --back: #fff; --front: #1b1b1f; --soft: #f3f3f6; --line: #d6d6dc;\
 --link: #0b57d0; }
@media (prefers-color-scheme: dark) { :root { --back: #16161a; --front: #e4e4e8; --soft: #222228;\
 --line: #3c3c44; --link: #8ab4f8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; background: var(--back);\
 color: var(--front); font: 16px/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
a { color: var(--link); }
nav { border-bottom: 1px solid var(--line); padding-bottom: .5rem; margin-bottom: 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; margin: .75rem 0; }
th, td { border: 1px solid var(--line); padding: .3rem .5rem; text-align: left; vertical-align: top; }
th { background: var(--soft); }
td { overflow-wrap: normal; min-width: 3.5rem; }
img { max-width: 100%; height: auto; background: #fff; }
pre, code { font: .8125rem/1.45 ui-monospace, monospace; background: var(--soft); }
pre { padding: .6rem; overflow-x: auto; border-radius: 4px; }
code { padding: .1em .25em; border-radius: 3px; }
pre code { padding: 0; }
h1 code, h2 code { font-size: .9em; }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--link); font-size: .875rem; }
"""
PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">\
<title>{title}</title><style>{style}</style></head>
<body><nav><a href="{home}">Self-Attention GAN, reproduced</a></nav><main>
{body}
</main></body>
</html>
"""


def build(to: Path) -> int:
    """Write README, docs/ and results/ as HTML into the folder `to`, replacing what an earlier call wrote.
    Returns the number of pages.

    Raises ReproError when the folder holds anything else.
    """
    mark = to / ".repro-site"
    if to.exists() and any(to.iterdir()) and not mark.exists():
        raise ReproError(
            f"{to} is not empty and no site of an earlier call: choose another folder with --to."
        )
    shutil.rmtree(to, ignore_errors=True)
    named = [runs.PROJECT / source for source in SOURCES]
    files = [
        path
        for source in named
        for path in ([source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file()))
    ]
    pages = 0
    for path in files:
        target = to / path.relative_to(runs.PROJECT)
        if path.suffix in COPIED:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        # which has the table and more
        elif path.suffix == ".ipynb" or (path.suffix == ".md" and not path.with_suffix(".ipynb").exists()):
            title, body = finished((of_markdown if path.suffix == ".md" else of_notebook)(path), path)
            home = os.path.relpath(to / "index.html", target.parent)
            text = PAGE.format(title=html.escape(title), style=STYLE, home=home, body=body)
            runs.write_atomically(_html(target, to), text.encode())
            pages += 1
    runs.write_atomically(mark, b"written by repro site\n")
    return pages


def _html(target: Path, to: Path) -> Path:
    """Where a page's HTML stands: README.md becomes index.html."""
    return target.with_name("index.html") if target.name == "README.md" else target.with_suffix(".html")


def of_markdown(path: Path) -> str:
    """A Markdown file as HTML, without a page around it."""
    from nbconvert.filters import markdown2html

    return markdown2html(path.read_text())


def of_notebook(path: Path) -> str:
    """An executed notebook as HTML, without a page around it."""
    from nbconvert import HTMLExporter

    return HTMLExporter(template_name="basic").from_filename(str(path))[0]


def finished(body: str, path: Path) -> tuple[str, str]:
    """Title and HTML: code folded, pictures described by the code that drew them, tables that scroll by
    themselves, links between pages, and rows of tables linked to the page of their runs.
    """
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(body, "html.parser")
    for tag in soup.select(".prompt, .anchor-link"):
        tag.decompose()
    for cell in soup.select(".code_cell"):
        code = cell.select_one(".input")
        for picture in cell.find_all("img"):
            picture["alt"] = f"figure drawn by {code.text.strip().splitlines()[-1]}"
        summary = soup.new_tag("summary")
        summary.string = "code"
        code.wrap(soup.new_tag("details")).insert(0, summary)
    labels = row_pages(path)
    for table in soup.find_all("table"):
        for cell in table.select("tr > td:first-child"):
            if cell.find("a") is None and cell.text.strip() in labels:
                for other in cell.parent.find_all("td"):
                    link = soup.new_tag("a", href=labels[cell.text.strip()])
                    link.extend(list(other.contents))
                    other.append(link)
        table.wrap(soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0"}))
    for tag in soup.find_all("a", href=True):
        if "://" not in tag["href"]:
            target, _, anchor = tag["href"].partition("#")
            if target.endswith("/"):
                target += "README.md"
            target = re.sub(r"(^|/)README\.md$", r"\1index.html", target)
            tag["href"] = re.sub(r"\.(md|ipynb)$", ".html", target) + (f"#{anchor}" if anchor else "")
    heading = soup.find("h1")
    return heading.text if heading else path.stem, str(soup)


def row_pages(path: Path) -> dict[str, str]:
    """For a page of a study the labels of its rows with the page of each one's runs."""
    from .. import paper
    from ..analysis import frames
    from ..presets import PRESETS
    from ..studies.study import run_name

    if path.parent.parent != runs.PROJECT / "results" or path.parent.name not in PRESETS:
        return {}
    preset, out = PRESETS[path.parent.name], {}
    for table in paper.WITH_NOTEBOOK.values():
        for row in table.rows:
            if frames.unavailable(row, preset) is None:
                page = Path("runs") / run_name(row, preset) / "README.md"
                if (path.parent / page).exists():
                    out.setdefault(row.label, str(page))
    return out
