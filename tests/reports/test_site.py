"""The site: every page readable without Jupyter, network or scripts, and every link in it leads somewhere."""

from urllib.parse import unquote

import pytest
from bs4 import BeautifulSoup

from repro import cli, runs
from repro.reports import site


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "pages"
    assert cli.run(["site", "--to", str(folder)]) == 0
    return {path: BeautifulSoup(path.read_text(), "html.parser") for path in folder.rglob("*.html")}


def test_every_notebook_and_page_of_results_is_there(pages):
    folder = min(pages, key=lambda p: len(p.parts)).parent
    for path in [
        *runs.PROJECT.glob("results/**/*.ipynb"),
        *runs.PROJECT.glob("results/**/*.md"),
        *runs.PROJECT.glob("docs/*.md"),
        runs.PROJECT / "README.md",
    ]:
        page = site._html(folder / path.relative_to(runs.PROJECT), folder)
        assert page in pages, path
        if path.suffix == ".ipynb":
            assert pages[page].find("details"), path  # the notebook itself, not the table of the same name


def test_every_link_inside_the_site_leads_to_a_file(pages):
    broken = []
    for path, soup in pages.items():
        for tag, name in (("a", "href"), ("img", "src")):
            for element in soup.find_all(tag):
                target = unquote(element.get(name, "")).partition("#")[0]
                if (
                    target
                    and "://" not in target
                    and not target.startswith("data:")
                    and not (path.parent / target).is_file()
                ):
                    outside = (
                        runs.PROJECT
                        / path.parent.relative_to(min(pages, key=lambda p: len(p.parts)).parent)
                        / target
                    ).exists()
                    broken.append((path.name, target, "in the project" if outside else ""))
    assert not broken


def test_pages_need_no_network_and_no_script_and_describe_their_pictures(pages):
    for path, soup in pages.items():
        assert not soup.find_all(["script", "link", "iframe"]), path
        assert all(
            img["src"].startswith("data:") or "://" not in img["src"] for img in soup.find_all("img")
        ), path
        assert all(
            len(img.get("alt", "")) > 10 and "No description" not in img["alt"]
            for img in soup.find_all("img")
        ), path
        assert soup.find("meta", attrs={"name": "viewport"}) and soup.title.text.strip()


def test_rows_of_tables_lead_to_their_runs(pages):
    notebook = next(
        soup for path, soup in pages.items() if path.match("results/smoke/table1_self_attention.html")
    )
    cells = [td for td in notebook.find_all("td") if td.text.strip() == "attention at 16"]
    assert cells and all(td.a["href"] == "runs/attention_16/index.html" for td in cells)
    page = next(
        soup for path, soup in pages.items() if path.match("results/smoke/runs/attention_16/index.html")
    )
    assert "repro train attention_16 --preset smoke --seed 0" in page.text and "recipe.beta2" in page.text
    assert page.find("a", href="seed0/run.json") and page.find("img", src="seed0/samples.jpg")


def test_a_folder_of_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine").write_text("keep")
    assert cli.run(["site", "--to", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err and (tmp_path / "mine").read_text() == "keep"
