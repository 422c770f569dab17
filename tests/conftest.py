import copy
import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from repro import paper, provenance, runs
from repro.analysis import drafting
from repro.checks import regression
from repro.data import images, loading
from repro.presets import PRESETS
from repro.recipes import Recipe
from repro.studies import study
from repro.studies.study import Study, configure, rows, run_name
from repro.training import loop

LONG = ("test_kills", "test_cli", "test_parallel", "test_cluster")  # files of tests
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items):
    """The longest files first, so that no worker waits for another at the end."""
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def rehearsal():
    return PRESETS["rehearsal"]


@pytest.fixture(scope="session")
def shapes_data(rehearsal):
    return loading.load(rehearsal)


@pytest.fixture(scope="session")
def trained_by_check():
    """Copies runs of the rehearsal that `make check` left into a study. Runs that another code made, and
    those that are not there, are left to be trained.
    """

    def copy(study, tasks):
        left = Study("rehearsal", executor="none", out="outputs/check")
        for task in tasks:
            source = left.run(task.row, task.seed).folder
            if source.is_dir():
                shutil.copytree(source, study.run(task.row, task.seed).folder)
        regression.discard_stale(study, tasks)

    return copy


@pytest.fixture(scope="session")
def trained(trained_by_check, rehearsal, shapes_data):
    """Folders of finished runs of the rehearsal: those of `make check`, or trained here."""

    def folders(out, *names):
        of = Study("rehearsal", executor="none", out=str(out))
        tasks = [task for task in of.tasks(paper.ALL_TABLES) if task.row in names]
        trained_by_check(of, tasks)
        for task in of.unfinished(tasks):
            config = images.with_data(task.config, shapes_data)
            loop.train(config, shapes_data, of.run(task.row, task.seed), task.row)
        return [of.run(name, 0).folder for name in names]

    return folders


@pytest.fixture
def make_config(rehearsal, shapes_data):
    """A small configuration with its data known: fields of the preset, the recipe and the configuration by
    name.
    """

    def make(row="none", seed=0, **changes):
        of = {c: {f.name for f in dataclasses.fields(c)} for c in (Recipe, type(rehearsal))}
        preset = dataclasses.replace(
            rehearsal, **{k: v for k, v in changes.items() if k in of[type(rehearsal)]}
        )
        config = study.configure(study.rows()[row], preset, seed)
        recipe = dataclasses.replace(
            config.recipe,
            **{k: v for k, v in changes.items() if k in of[Recipe] and k not in of[type(rehearsal)]},
        )
        config = dataclasses.replace(config, recipe=recipe)
        return images.with_data(config, shapes_data)

    return make


@pytest.fixture
def shared_data():
    """Gives the folder of a real data set by its name, or skips with the reason."""

    def folder(name):
        if not (SHARED / name).is_dir():
            pytest.skip(
                f"real {name} is not on this machine (looked for ../shared/data/{name} beside the project)"
            )
        return SHARED / name

    return folder


DEFINITION = {"extractor": "efficientnet_lite0", "resizer": "r", "samples": 10, "references": 20}


@pytest.fixture
def study_of(tmp_path):
    """A study whose runs have the given final FIDs: {row: [of seed 0, of seed 1, ...]}."""

    def make(
        fids,
        best=None,
        definition=DEFINITION,
        preset="rehearsal",
        status="complete",
        without=None,
        extra=lambda fid: {},
    ):
        seeds = max(map(len, fids.values()))
        study = Study(preset, seeds, executor="none", out=str(tmp_path))
        for row, values in fids.items():
            for seed, fid in enumerate(values):
                score = lambda step, value: (
                    {"step": step, "fid": value, "is": 100 / value, "intra_fid": 2 * value, "diversity": 1.0}
                    | extra(value)
                )
                scores = [score(2, (best or {}).get(row, fid)), score(4, fid)]
                scores = [{k: v for k, v in of.items() if k != without} for of in scores]
                gamma = {"gamma_g": {}, "gamma_d": {}}
                study.run(run_name(rows()[row], study.preset), seed).write(
                    {
                        "schema": runs.SCHEMA,
                        "row": run_name(rows()[row], study.preset),
                        "config": configure(rows()[row], study.preset, seed).identity,
                        "status": status,
                        "error": None,
                        "step": 4,
                        "parameters": {"generator": 5, "discriminator": 6},
                        "history": [{"step": s, "loss_d": 1.0, "loss_g": 0.0} | gamma for s in (2, 4)],
                        "scores": scores,
                        "final": scores[-1],
                        "best": runs.best(scores),
                        "definition": definition,
                        "provenance": {
                            "wall_seconds": 60.0,
                            "images_per_second": 7.0,
                            "precision": "fp32",
                            "data": "symmetric_shapes",
                            "device": "cpu",
                            "processor": "a processor",
                            "packages": {"torch": "2"},
                            "code": {"sources": "abc"},
                        },
                    }
                )
        return study

    return make


@pytest.fixture
def declare():
    """Writes a plan into a study's folder: the draft of its preset, with one score in the endpoint; fields by
    name.
    """

    def make(study, most_seeds=10, **fields):
        raw = drafting.draft(study.preset, most_seeds, scores=1, declared="2026-01-01") | fields
        study.folder.mkdir(parents=True, exist_ok=True)
        (study.folder / "plan.json").write_text(json.dumps(raw))
        return study

    return make


@pytest.fixture
def another(declare, monkeypatch):
    """A study's runs as those of another preset, which differs in the fields named."""

    def make(study, name, margin=0.1, **fields):
        copied = copy.copy(study)
        copied.preset = dataclasses.replace(study.preset, name=name, **fields)
        monkeypatch.setitem(PRESETS, name, copied.preset)
        shutil.copytree(study.folder, copied.folder)
        for path in copied.folder.glob("runs/*/seed*"):
            config = configure(rows()[path.parent.name], copied.preset, int(path.name[4:])).identity
            runs.Run(path).write(runs.Run(path).read() | {"config": config})
        return declare(copied, margin=margin)

    return make


@pytest.fixture
def recipe_study(study_of):
    """Two seeds, a spread of the seeds (+-10) that pairing takes out, and residuals that can be counted by
    hand.
    """
    fids = {"attention_16": [100, 120], "none": [110, 130], "knob_flip": [94, 126], "knob_init": [146, 154]}
    return lambda **more: study_of(fids | more)


@pytest.fixture(scope="module")
def reference():
    return Study("rehearsal", executor="none", out="results")


@pytest.fixture
def two_studies(tmp_path):
    """A made-up reference and a copy of it to change: (reference, now, write) with write(study, seed, fid,
    **changes).
    """
    reference, now = (
        Study("rehearsal", executor="none", out=str(tmp_path / name)) for name in ("reference", "now")
    )

    def write(study, seed, fid, **changes):
        score = {"step": 4, "fid": fid, "is": 2.0, "diversity": 1.0}
        entry = {"step": 1, "loss_d": fid / 100, "loss_g": 0.0, "gamma_g": {}, "gamma_d": {}}
        study.run("none", seed).write(
            {
                "schema": runs.SCHEMA,
                "row": "none",
                "config": {"recipe": {"lr_g": 1.0, "ema_decay": None}, "preset": {}, "seed": seed},
                "status": "complete",
                "error": None,
                "step": 4,
                "parameters": {"generator": 5, "discriminator": 6},
                "history": [entry],
                "scores": [score],
                "final": score,
                "best": score,
                "definition": {"extractor": "x"},
                "provenance": {"wall_seconds": 1.0, "code": provenance.code_revision()},
            }
            | changes
        )

    write(reference, 0, 100.0), write(now, 0, 100.0)
    return reference, now, write
