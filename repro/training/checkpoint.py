"""Checkpoints: everything a run continues from in one checked file, and the networks of a trained run out of
it.
"""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import shutil
import zlib
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from .. import parallel, provenance, runs
from ..config import Config, difference
from ..data.images import ImageData
from ..errors import ReproError
from ..networks.resnet import build, parameter_count

log = logging.getLogger(__name__)


def keep_best(run: runs.Run, record: dict) -> None:
    """Keep the checkpoint of the best scored step beside the newest, where that is the newest: no second copy
    on the disk.
    """
    if record["scores"] and record["best"]["step"] == record["step"] and run.checkpoint_path.exists():
        part = run.best_path.with_suffix(".part")
        part.unlink(missing_ok=True)
        try:
            os.link(run.checkpoint_path, part)
        except OSError:  # a file system without links
            shutil.copyfile(run.checkpoint_path, part)
        os.replace(part, run.best_path)


def write_checkpoint(
    run: runs.Run, config: Config, modules: dict[str, nn.Module], record: dict, precision: str
) -> None:
    """One atomic file: a CRC-32 of the rest, then networks, optimisers, average, step and history. The last
    one is kept too.
    """
    state = {name: module.state_dict() for name, module in modules.items()}
    buffer = io.BytesIO()
    torch.save(
        {"config": json.dumps(config.identity), "precision": precision, "record": json.dumps(record)} | state,
        buffer,
    )
    data = buffer.getvalue()
    if run.checkpoint_path.exists():
        os.replace(run.checkpoint_path, run.previous_path)
    runs.write_atomically(run.checkpoint_path, zlib.crc32(data).to_bytes(4, "little") + data)


def read_checkpoint(path: Path) -> dict:
    """A checkpoint's content: tensors and plain data, never code. Raises ReproError when it is cut short,
    corrupt or anything else.
    """
    data = path.read_bytes()
    if len(data) < 5 or zlib.crc32(data[4:]).to_bytes(4, "little") != data[:4]:
        raise ReproError(f"{path} is damaged (its checksum is wrong).")
    try:
        return torch.load(io.BytesIO(data[4:]), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise ReproError(f"{path} is damaged (it is not a checkpoint of tensors and plain data).") from error


def newest_checkpoint(run: runs.Run) -> dict | None:
    """The newest sound checkpoint, None when there is none. A damaged one is named in the log and the one
    before it taken.

    Raises ReproError when every one there is is damaged.
    """
    damaged = []
    for path in (run.checkpoint_path, run.previous_path):
        if not path.exists():
            continue
        try:
            state = read_checkpoint(path)
        except ReproError as error:
            log.warning("%s", error)
            damaged.append(path)
            continue
        for other in damaged:  # or it would take the sound one's place at the next write
            other.replace(other.with_suffix(".damaged"))
        return state
    if damaged:
        raise ReproError(
            f"Every checkpoint in {run.folder} is damaged (wrong checksums or content): delete the folder and"
            " the run starts anew."
        )
    return None


def new_record(config: Config, data: ImageData, row: str, networks: dict[str, nn.Module], made: dict) -> dict:
    """The record of a run at its first step. networks: "g" and "d" by name; made: its provenance."""
    return {
        "schema": runs.SCHEMA,
        "key": config.key,
        "row": row,
        "recipe": config.recipe.name,
        "config": config.identity,
        "status": "running",
        "error": None,
        "step": 0,
        "parameters": {
            "generator": parameter_count(networks["g"]),
            "discriminator": parameter_count(networks["d"]),
        },
        "history": [],
        "scores": [],
        "attention": [],
        "selection": runs.SELECTION,
        "provenance": made
        | {
            "data": data.name,
            "data_fingerprint": data.fingerprint,
            "images": len(data.images),
            "wall_seconds": 0.0,
            "train_seconds": 0.0,
            "score_seconds": 0.0,
        },
    }


def restore(
    run: runs.Run, config: Config, modules: dict[str, nn.Module], record: dict, precision: str
) -> None:
    """Put the newest checkpoint's state into `modules` and `record`; nothing without one.

    Raises ReproError when it is of another configuration, naming the fields.
    """
    state = parallel.on_first(lambda: newest_checkpoint(run))
    if state is None:
        return
    fields = difference(json.loads(state["config"]), config.identity)
    if state["precision"] != precision:
        fields.append(f"precision was {state['precision']} and is now {precision}")
    if fields:
        raise ReproError(
            f"The checkpoint in {run.folder} is of another configuration ({'; '.join(fields)}): move the"
            " folder away."
        )
    for name, module in modules.items():
        module.load_state_dict(state[name])
        if isinstance(module, torch.optim.Optimizer):
            for group in module.param_groups:  # how this session steps, not how the one before did
                group["capturable"] = module.defaults["capturable"]
    stored = json.loads(state["record"])
    before = stored.pop("provenance")
    record |= {name: value for name, value in stored.items() if name not in ("schema", "row", "recipe")}
    if record["status"] not in runs.FINISHED:
        record["status"] = "running"
    record["provenance"] |= {name: value for name, value in before.items() if name.endswith("_seconds")}
    for name in provenance.MADE_BY:  # a run that two revisions of the code or two processors made says so
        earlier = before.get(f"earlier_{name}", [])
        if before.get(name) != record["provenance"].get(name):
            earlier = [*earlier, before.get(name)]
        if earlier:
            record["provenance"][f"earlier_{name}"] = earlier
    log.info("continuing at step %d", record["step"])


def trained(folder: str | Path) -> tuple[Config, nn.Module, nn.Module, str]:
    """Of the run in a folder: its configuration, G as it is sampled from (its average where it has one), D
    and the precision.

    Raises ReproError when the folder has no checkpoint or a damaged one.
    """
    run = runs.Run(Path(folder))
    state = newest_checkpoint(run)
    if state is None:
        raise ReproError(
            f"There is no checkpoint in {folder}: name the folder of a run trained on this machine, such as"
            " outputs/smoke/runs/attention_16/seed0 (committed results have none)."
        )
    config = Config.of(json.loads(state["config"]))
    _, d = build(config)
    d.load_state_dict(state["d"])
    return config, sampled_generator(config, state), d, state["precision"]


def sampled_generator(config: Config, state: dict) -> nn.Module:
    """G of a checkpoint's content as it is sampled from: its average where that has begun."""
    g, _ = build(config)
    g.load_state_dict(state["g"])
    if "ema" in state and state["ema"]["n_averaged"] > 0:
        average = AveragedModel(g)
        average.load_state_dict(state["ema"])
        return average.module
    return g
