"""Imports go to the same room or a lower one, without circles; the drawing is of the real imports."""

import pytest

from repro import runs
from tests.checks import rooms


def test_imports_run_downwards():
    assert rooms.upwards(rooms.graph()) == []


def test_no_module_is_in_a_circle():
    assert rooms.circles(rooms.graph()) == []


@pytest.mark.parametrize(
    "module, other", [("training.loop", "analysis.verdicts"), ("config", "runs"), ("data.images", "cli")]
)
def test_an_import_that_goes_up_is_found(module, other):
    arrows = rooms.graph()
    arrows[module] = arrows[module] | {other}
    assert rooms.upwards(arrows) == [f"{module} imports {other}"]


def test_a_circle_is_found():
    arrows = rooms.graph()
    assert "studies.study" in arrows["studies.trainer"]  # imports inside functions count too
    arrows["studies.study"] = arrows["studies.study"] | {"studies.trainer"}
    assert {"studies.trainer", "studies.study"} <= set(rooms.circles(arrows))


def test_every_room_has_its_folder():
    folders = {path.name for path in rooms.PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(rooms.ROOMS) - {"", "cli"}


def test_the_drawing_is_of_the_real_imports():
    text = (runs.PROJECT / "CONTRIBUTING.md").read_text()
    assert rooms.drawing() in text, f"put this into CONTRIBUTING.md:\n{rooms.drawing()}"
