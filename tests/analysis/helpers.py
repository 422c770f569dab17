"""What several tests of verdicts use."""

import json

from repro import runs
from repro.analysis import comparisons as c
from repro.analysis import statistics as s

GOOD = [100, 101, 102, 100, 101, 102, 101, 100, 102, 101]  # an sd of 0.8 per cent


LEVELS = s.nominal_levels(10)


def judged(study, claim):
    return [j for j in c.judge(study) if j.comparison.claim == claim]


def pair(study_of, declare, better, worse, **more):
    """A study whose claim C5 is the two rows at 16 alone."""
    study = declare(study_of({"attention_16": better, "residual_16": worse}, **more))
    raw = json.loads((study.folder / "plan.json").read_text())
    raw["comparisons"] = [
        of for of in raw["comparisons"] if of.get("gain", {}).keys() == {"attention_16", "residual_16"}
    ]
    (study.folder / "plan.json").write_text(json.dumps(raw))
    return study


def budgets(study_of, declare, sngan):
    """FIDs of four scored steps; a step of SNGAN-projection has five D updates and costs 2.6."""
    study = study_of({"sagan": GOOD, "sngan_projection": GOOD, "acgan": GOOD})
    for row, curve in (("attention_16", [200, 180, 120, 100]), ("sngan_projection", sngan), ("acgan", sngan)):
        for seed in range(10):
            run = study.run(row, seed)
            record = run.read()
            scores = [
                dict(
                    record["final"],
                    step=step,
                    fid=fid * GOOD[seed] / 100,
                    intra_fid=fid * GOOD[seed] / 50,
                    **{"is": 1e4 / fid / GOOD[seed]},
                )
                for step, fid in enumerate(curve, 1)
            ]
            run.write(record | {"scores": scores, "final": scores[-1], "best": scores[-1]})
    return declare(study)


def scaled(values, by):
    return [by * value for value in values]


def with_status(study, **broken):
    """The study with the seeds named of the rows named collapsed."""
    for row, seeds in broken.items():
        for seed in seeds:
            run = study.run(row, seed)
            run.write(run.read() | {"status": "collapsed"})
    return study


def change(study, only=None, **fields):
    """Set fields of the study's records, or of one run's alone."""
    for path in study.folder.glob("runs/*/seed*/run.json"):
        run = runs.Run(path.parent)
        if only is None or (path.parent.parent.name, path.parent.name) == (only[0], f"seed{only[1]}"):
            run.write(run.read() | fields)
