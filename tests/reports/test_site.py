"""The site: every page readable without Jupyter and network, and every link in it leads somewhere."""

from urllib.parse import unquote

import pytest
from bs4 import BeautifulSoup

from repro import claims, cli, runs
from repro.reports import site_front, site_html


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "pages"
    assert cli.run(["site", "--to", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def pages(folder):
    return {path: BeautifulSoup(path.read_text(), "html.parser") for path in folder.rglob("*.html")}


def test_every_notebook_and_page_of_results_is_there(pages, folder):
    for path in [
        *runs.PROJECT.glob("results/**/*.ipynb"),
        *runs.PROJECT.glob("results/**/*.md"),
        *runs.PROJECT.glob("docs/*.md"),
        runs.PROJECT / "README.md",
    ]:
        page = folder / site_html.target(path)
        assert page in pages, path
        if path.suffix == ".ipynb":
            assert pages[page].find("details"), path  # the notebook itself, not the table of the same name


def test_every_link_inside_the_site_leads_to_a_file(pages, folder):
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
                    outside = (runs.PROJECT / path.parent.relative_to(folder) / target).exists()
                    broken.append((path.name, target, "in the project" if outside else ""))
    assert not broken


def test_pages_need_no_network_and_no_script_from_elsewhere(pages):
    for path, soup in pages.items():
        assert not soup.find_all(["link", "iframe"]) and not soup.find("script", src=True), path
        assert all(
            img["src"].startswith("data:") or "://" not in img["src"] for img in soup.find_all("img")
        ), path
        assert soup.find("meta", attrs={"name": "viewport"}) and soup.title.text.strip()


def test_every_picture_says_what_it_shows(pages):
    for path, soup in pages.items():
        for alt in (img.get("alt", "") for img in soup.find_all("img")):
            assert len(alt) > 25 and "No description" not in alt and "drawn by" not in alt, (path, alt)


def test_every_page_leads_to_all_studies_and_to_its_neighbours(pages, folder):
    studies = {folder / "results" / study.preset.name / "index.html" for study in site_front.reported()}
    ends = []
    for path, soup in pages.items():
        top, turn = soup.find("header").find_all("a"), soup.select_one("nav.turn").find_all("a")
        assert studies <= {(path.parent / link["href"]).resolve() for link in top}, path
        assert soup.select_one("nav.part").find(attrs={"aria-current": "page"}), path
        for link in turn:
            other, back = pages[(path.parent / link["href"]).resolve()], {"prev": "next", "next": "prev"}
            link = other.select_one(f"nav.turn a[rel={back[link['rel'][0]]}]")
            assert link["href"].endswith(path.name), path
        ends += [path] * (len(turn) == 1)
    assert len(ends) == 2 and folder / "index.html" in ends


def test_the_landing_page_answers_as_the_readme_does(pages, folder):
    page = pages[folder / "index.html"]
    answer = page.select_one(".answer").text
    assert "Does attention help?" in answer and page.select(".plot") and page.select(".strip .pixels")
    cards = page.select(".claims article")
    assert [card.h3.text for card in cards] == [claim.name for claim in claims.CLAIMS]
    assert all(card.select(".badge") and card.details for card in cards)
    assert not page.select(".badge.not-tried-here")


def test_cells_carry_their_columns_for_a_phone_and_long_tables_their_script(pages, folder):
    page = pages[folder / "results/smoke/runs/attention_16/index.html"]
    table = page.select_one("table.cards")
    heads = [head.text for head in table.select("thead th")]
    assert [cell["data-label"] for cell in table.select_one("tbody tr").find_all("td")] == heads
    assert page.select("table.many") and len(page.find_all("script")) == 1
    assert not any(soup.find("script") for soup in pages.values() if not soup.select("table.many"))


def test_rows_of_tables_lead_to_their_runs(pages):
    notebook = next(
        soup for path, soup in pages.items() if path.match("results/smoke/table1_self_attention.html")
    )
    cells = [td for td in notebook.find_all("td") if td.text.strip() == "attention at 16"]
    assert cells and all(td.a["href"] == "runs/attention_16/index.html" for td in cells)
    assert not any(td.a for cell in cells for td in cell.find_next_siblings("td"))  # links on labels only
    page = next(
        soup for path, soup in pages.items() if path.match("results/smoke/runs/attention_16/index.html")
    )
    assert "repro train attention_16 --preset smoke --seed 0" in page.text and "recipe.beta2" in page.text
    assert page.find("a", href="seed0/run.json") and page.find("img", src="seed0/samples.jpg")


def test_a_folder_of_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine").write_text("keep")
    assert cli.run(["site", "--to", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err and (tmp_path / "mine").read_text() == "keep"
