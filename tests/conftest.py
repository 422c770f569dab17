import dataclasses
from pathlib import Path

import pytest
import torch

from repro import data, study
from repro.config import PRESETS, Recipe

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def rehearsal():
    return PRESETS["rehearsal"]


@pytest.fixture(scope="session")
def shapes_data(rehearsal):
    return data.load(rehearsal)


@pytest.fixture
def make_config(rehearsal, shapes_data):
    """A small configuration with its data known: fields of the preset, the recipe and the configuration by name."""

    def make(row="none", seed=0, **changes):
        of = {c: {f.name for f in dataclasses.fields(c)} for c in (Recipe, type(rehearsal))}
        preset = dataclasses.replace(rehearsal, **{k: v for k, v in changes.items() if k in of[type(rehearsal)]})
        config = study.configure(study.rows()[row], preset, seed)
        recipe = dataclasses.replace(config.recipe, **{k: v for k, v in changes.items() if k in of[Recipe] and k not in of[type(rehearsal)]})
        config = dataclasses.replace(config, recipe=recipe)
        return data.with_data(config, shapes_data)

    return make


def shared_data(name):
    """The folder of a real data set, or a skip that says why."""
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"real {name} is not on this machine (looked for ../shared/data/{name} beside the project)")
    return folder
