"""One page of the site from one file: Markdown or an executed notebook as HTML, made readable on a phone, in
the dark and aloud.
"""

from __future__ import annotations

import inspect
import os
import re
from functools import cache
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from jinja2 import Environment, PackageLoader

from .. import paper, runs
from ..analysis import frames
from ..presets import PRESETS
from ..studies.study import run_name
from . import forests, pictures, plots

TEMPLATES = Environment(
    loader=PackageLoader("repro", "reports"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
MANY = 10  # rows of a table from which on it is filtered and sorted
LONG = 60  # characters of a cell that stands below its label on a phone, not beside it
SHORT = 14  # characters of a cell that stay on one line
ENLARGED = 640  # px: small pictures are shown at the largest whole multiple up to here
PICTURED = {  # what a run's pictures show
    "samples": "generated images, a column a class",
    "attention": "generated images with query points and how much each point attends to every position",
    "neighbours": "generated images, each beside the training images nearest to it",
    "interpolations": "lines of generated images that change from one latent or class to another",
    "shadow": "images generated with averaged weights, a column a class",
}


def target(source: Path) -> Path:
    """Where the page of a file of the project stands in the site: README.md becomes index.html, but the
    project's own makes room for the landing page.
    """
    place = source.relative_to(runs.PROJECT)
    if place.name == "README.md":
        return place.with_name("index.html" if len(place.parts) > 1 else "readme.html")
    return place.with_suffix(".html")


def of_file(path: Path) -> tuple[str, str]:
    """Title and HTML of a file, without a page around it."""
    return finished(of_markdown(path.read_text()) if path.suffix == ".md" else of_notebook(path), path)


def of_markdown(text: str) -> str:
    """Markdown as HTML."""
    from nbconvert.filters import markdown2html

    return markdown2html(text)


def of_notebook(path: Path) -> str:
    """An executed notebook as HTML, its figures described."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    title, section = path.stem, ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for marks, heading in re.findall(r"^(#+) (.+)$", cell.source, re.MULTILINE):
                title, section = (heading, "") if marks == "#" else (title, heading)
            continue
        drawn = re.search(r"(?:plots|pictures|forests)\.(\w+)\([^()]*\)\s*$", cell.source)
        for output in cell.outputs:
            for kind in [kind for kind in output.get("data", {}) if kind.startswith("image/")]:
                words = described(drawn[1]) if drawn else section
                of = "; ".join(part for part in (section, title, f"preset {path.parent.name}") if part)
                output.metadata.setdefault(kind, {}).setdefault("alt", f"{words} {of}.")
    return _exporter().from_notebook_node(notebook)[0]


@cache
def _exporter():
    from nbconvert import HTMLExporter

    return HTMLExporter(template_name="basic")


def described(plot: str) -> str:
    """What a function that draws says of its figure; "a figure" of one that only older notebooks call."""
    found = [getattr(module, plot) for module in (plots, pictures, forests) if hasattr(module, plot)]
    text = inspect.getdoc(found[0]) if found else "A figure."
    return " ".join(text.partition("\n\n")[0].split())


def finished(body: str, path: Path) -> tuple[str, str]:
    """Title and HTML: code folded, pictures sized and described, tables that scroll by themselves and become
    cards on a phone, links between pages, and rows of tables linked to the page of their runs.
    """
    soup = BeautifulSoup(body, "html.parser")
    for tag in soup.select(".prompt, .anchor-link, style"):
        tag.decompose()
    for cell in soup.select(".code_cell"):
        _fold_code(cell, soup)
    for picture in soup.find_all("img"):
        _show_picture(picture, path, soup)
    labels = row_pages(path)
    for table in soup.find_all("table"):
        for cell in table.select("tr > td:first-child"):
            page = labels.get(cell.text.strip())
            if page and cell.find("a") is None:
                link = soup.new_tag("a", href=page)
                link.extend(list(cell.contents))
                cell.append(link)
        _show_table(table)
    for wide in soup.select("table, img.plot"):
        wide.wrap(soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0"}))
    for block in soup.find_all("pre"):
        block["tabindex"] = "0"
        if block.find_parent(class_="output") and "  " not in block.text:
            block["class"] = "prose"
    for tag in soup.find_all("a", href=True):
        tag["href"] = _inside(tag["href"], path)
    heading = soup.find("h1")
    return heading.text if heading else path.stem, str(soup)


def _fold_code(cell: Tag, soup: BeautifulSoup) -> None:
    """A cell's code closed under a label that says what it makes."""
    made = "figure" if cell.find("img") else "table" if cell.find("table") else "text"
    summary = soup.new_tag("summary")
    if "celltag_injected-parameters" in cell["class"]:
        summary.string = "Code: the parameters of this page"
    elif cell.select_one(".output"):
        summary.string = f"Code of this {made}"
    else:
        summary.string = "Code: parameters and their defaults"
    cell.select_one(".input").wrap(soup.new_tag("details")).insert(0, summary)


def _show_picture(picture: Tag, path: Path, soup: BeautifulSoup) -> None:
    """A run's own pictures in crisp pixels at a whole multiple of their size, with what they show below them;
    plots on a light panel.
    """
    of_run = re.match(rf"({'|'.join(PICTURED)}) of .+, seed \d+$", picture.get("alt", ""))
    if not of_run:
        if "pixels" not in picture.get("class", []):
            picture["class"] = "plot"
        return
    picture["class"] = "pixels"
    picture["alt"] += f": {PICTURED[of_run[1]]}"
    if not picture["src"].startswith("data:"):
        from PIL import Image

        with Image.open(path.parent / picture["src"]) as image:
            times = max(1, ENLARGED // image.width)
            picture["width"], picture["height"] = times * image.width, times * image.height
        picture.parent.name = "figure"
        caption = soup.new_tag("figcaption")
        caption.string = picture["alt"]
        picture.insert_after(caption)


def _show_table(table: Tag) -> None:
    """Each cell labelled by its column, for cards, which leave out what is empty and say "n/a" once; headings
    without text made cells; long tables marked.
    """
    heads = table.select("thead th")
    labels = [head.text.strip() for head in heads]
    lines = table.select("tbody tr")
    table["class"] = [*(["cards"] if len(heads) > 2 else []), *(["many"] if len(lines) >= MANY else [])]
    for head in heads:
        head.attrs = {"scope": "col"}
        if not head.text.strip():
            head.name, head.attrs = "td", {}
    for line in lines:
        missing = False
        for label, cell in zip(labels, line.find_all("td"), strict=False):
            text = cell.text.strip()
            cell.attrs = {"data-label": label} if label else {}
            value = Tag(name="span")  # one box beside the label, whatever the cell holds
            value.extend(list(cell.contents))
            cell.append(value)
            if text in ("", "–", "nan") or (missing and text.startswith("n/a")):
                cell["class"] = "none"
            elif len(text) > LONG or len(text) <= SHORT:
                cell["class"] = "long" if len(text) > LONG else "short"
            missing |= text.startswith("n/a")


def _inside(href: str, path: Path) -> str:
    """A link of a file of the project as a link of its page."""
    place, _, anchor = href.partition("#")
    if "://" in href or not place or place.startswith("mailto:"):
        return href
    found = Path(os.path.normpath(path.parent / place))
    if place.endswith("/"):
        found /= "README.md"
    if found.suffix in (".md", ".ipynb"):
        found = runs.PROJECT / target(found)
    return os.path.relpath(found, path.parent) + (f"#{anchor}" if anchor else "")


def row_pages(path: Path) -> dict[str, str]:
    """For a page of a study the labels of its rows with the page of each one's runs."""
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
