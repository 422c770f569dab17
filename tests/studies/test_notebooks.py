"""Executing notebooks: a failure is kept and replaces nothing."""

import nbformat
import pytest

from repro import paper, runs
from repro.errors import ReproError
from repro.studies import notebooks
from repro.studies.study import Study


def template(folder, code):
    """A notebook "small" of one cell after its parameters."""
    cells = [nbformat.v4.new_code_cell("preset = ''", metadata={"tags": ["parameters"]})]
    cells.append(nbformat.v4.new_code_cell(code))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "small.ipynb")


def test_a_notebook_that_fails_is_kept_up_to_its_error_and_replaces_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    study, out = Study("rehearsal", executor="none", out=str(tmp_path)), tmp_path / "executed"
    template(tmp_path, "print(6 * 7)")
    notebooks.execute_notebooks(["small"], study, out)
    good = (out / "small.ipynb").read_bytes()
    page = notebooks.as_page(out / "small.ipynb").read_text()
    assert "42" in page and "6 * 7" not in page  # what it found, without its code

    template(tmp_path, "1 / 0")
    with pytest.raises(ReproError, match="ZeroDivisionError.*small.failed.ipynb shows where"):
        notebooks.execute_notebooks(["small"], study, out)
    assert "ZeroDivisionError" in (out / "small.failed.ipynb").read_text()
    assert (out / "small.ipynb").read_bytes() == good
    assert not list(out.glob(".part*"))

    template(tmp_path, "print(6 * 7)")
    notebooks.execute_notebooks(["small"], study, out)
    assert not (out / "small.failed.ipynb").exists()


def test_an_unknown_notebook_parameter_is_an_error(tmp_path):
    import papermill

    notebook = notebooks.NOTEBOOKS / "table1_self_attention.ipynb"
    with pytest.raises(
        papermill.PapermillExecutionError, match="Unknown notebook parameter 'presett'.*Did you mean 'preset'"
    ):
        papermill.execute_notebook(
            notebook, tmp_path / "out.ipynb", {"presett": "smoke"}, cwd=runs.PROJECT, progress_bar=False
        )


def test_every_table_has_its_notebook():
    named = {table.notebook for table in paper.WITH_NOTEBOOK.values()}
    assert named <= {path.stem for path in notebooks.NOTEBOOKS.glob("*.ipynb")}


def test_notebook_templates_hold_no_outputs_and_one_parameters_cell():
    for path in notebooks.NOTEBOOKS.glob("*.ipynb"):
        cells = nbformat.read(path, 4).cells
        assert not any(c.get("outputs") for c in cells), path.name
        (parameters,) = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
        values = {}
        exec(parameters.source, values)
        Study.from_parameters(values)
        assert values["preset"] == "smoke"
        assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
