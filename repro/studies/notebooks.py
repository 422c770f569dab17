"""The notebooks of a study, executed over its runs."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .. import runs
from ..errors import ReproError
from .study import Study

NOTEBOOKS = runs.PROJECT / "notebooks"


def execute_notebooks(names: list[str], study: Study, folder: Path) -> None:
    """Execute notebooks/<name>.ipynb into <folder>/<name>.ipynb with papermill for this study, as many at
    once as there are cores.

    Nothing trains in them: what was missing was trained before, with one progress display. A file appears
    only when complete, so that an interrupted or failed execution never replaces a good notebook. Where a
    cell fails, the notebook up to it stays as <folder>/<name>.failed.ipynb; raises ReproError.
    """
    with _quiet("papermill", "blib2to3"), ThreadPoolExecutor(os.cpu_count()) as pool:
        # the first error ends those that have not begun
        list(pool.map(lambda name: _execute(name, study, folder), names))


def _execute(name: str, study: Study, folder: Path) -> None:
    import nbformat
    import papermill
    from traitlets.config import Config as TraitConfig

    out = study.out.relative_to(runs.PROJECT) if study.out.is_relative_to(runs.PROJECT) else study.out
    parameters = {"preset": study.preset.name, "seeds": study.seeds, "executor": "none", "out": str(out)}
    folder.mkdir(parents=True, exist_ok=True)
    part, failed = folder / f".part-{name}-{os.getpid()}.ipynb", folder / f"{name}.failed.ipynb"
    try:
        # sockets in a folder of their own: TCP ports picked by kernels that start together can clash
        # (papermill issue 511)
        with tempfile.TemporaryDirectory(prefix="repro-") as sockets:
            papermill.execute_notebook(
                NOTEBOOKS / f"{name}.ipynb",
                part,
                parameters,
                cwd=runs.PROJECT,
                progress_bar=False,
                kernel_name="python3",
                config=TraitConfig(
                    {
                        "KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"},
                        # a kernel that ends late is interrupted, and would log that as an error
                        "NotebookClient": {"extra_arguments": ["--IPKernelApp.log_level=CRITICAL"]},
                    }
                ),
            )
        notebook = nbformat.read(part, nbformat.NO_CONVERT)
        for item in (
            notebook,
            *notebook.cells,
        ):  # this machine's paths and clock: an equal study is an equal file
            item.metadata.pop("papermill", None)
            item.metadata.pop("execution", None)
            if "injected-parameters" in item.metadata.get("tags", ()):
                item.id = "injected-parameters"  # papermill draws one at random
        nbformat.write(notebook, part)
        os.replace(part, folder / f"{name}.ipynb")
        failed.unlink(missing_ok=True)
    except papermill.PapermillExecutionError as error:
        os.replace(part, failed)
        raise ReproError(
            f"The notebook {name} stopped in a cell: {error.ename}: {error.evalue}. {failed} shows where."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def as_page(notebook: Path) -> Path:
    """An executed notebook as HTML beside it, without its code. Returns its path."""
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter(exclude_input=True, embed_images=True).from_filename(str(notebook))
    path = notebook.with_suffix(".html")
    runs.write_atomically(path, page.encode())
    return path


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Loggers kept to errors for the length of a block."""
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
