"""What several tests of the regression check use."""

from repro.checks import regression


def tolerate(fid):
    kinds = {
        "scores.fid": fid,
        "scores.is": 0.1,
        "scores.diversity": 0.0,
        "history.loss_d": 0.01,
        "history.loss_g": 0.0,
    }
    return {
        "seed_spread": {},
        "largest_difference": {name: {"1": value / 2, "4": value} for name, value in kinds.items()},
    }


def compared(reference, now, fid=3.0):
    tasks = [task for task in now.tasks(["table1"]) if task.row == "none"]
    return regression.compare(reference, now, tasks, tolerate(fid)).set_index(["run", "quantity"])
