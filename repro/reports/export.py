"""Generators for others to use: weights as safetensors with their configuration inside, and a model card
beside them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import torch

from .. import provenance, runs
from ..analysis import labels, tables
from ..config import Config
from ..errors import ReproError
from ..presets import PRESETS
from ..training.checkpoint import read_checkpoint, sampled_generator, trained

SUFFIX = ".safetensors"


def export(folder: Path, to: Path) -> None:
    """Write the generator of a run's best scored step to `to`, and a model card to the same name with .md.

    Raises ReproError when the run was never scored, has no such checkpoint on this machine, or is in no
    study's folder.
    """
    from safetensors.torch import save

    run, study = runs.Run(folder), Path(*folder.resolve().parts[:-3])
    record = run.read()
    if record is None or not run.best_path.exists():
        raise ReproError(
            f"{folder} has no best.pt: name the folder of a run that was trained and scored on this machine."
        )
    if study.name not in PRESETS:
        raise ReproError(
            f"{folder} is not in a study's folder (PRESET/runs/ROW/seedK), whose name its model card needs:"
            " put it into one."
        )
    state = read_checkpoint(run.best_path)
    config = Config.of(json.loads(state["config"]))
    weights = {
        name: tensor.contiguous() for name, tensor in sampled_generator(config, state).state_dict().items()
    }
    score = json.loads(state["record"])["final"]
    metadata = {
        "config": state["config"],
        "precision": state["precision"],
        "row": record["row"],
        "score": json.dumps(score),
    }
    runs.write_atomically(to, save(weights, metadata))
    card = model_card(record, study.name, score, to.name)
    runs.write_atomically(to.with_suffix(".md"), card.encode())


def generator(source: Path) -> tuple[Config, torch.nn.Module, str]:
    """Of an exported file, or of a run's folder: configuration, G as it is sampled from, precision. Raises
    ReproError for anything else.
    """
    if source.suffix != SUFFIX:
        config, g, _, precision = trained(source)
        return config, g, precision
    from safetensors import SafetensorError, safe_open

    from ..networks.resnet import build

    try:
        with safe_open(source, "pt") as f:
            metadata, weights = f.metadata(), {name: f.get_tensor(name) for name in list(f.keys())}
        config = Config.of(json.loads(metadata["config"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ReproError(
            f"{source} cannot be read as an exported generator ({type(error).__name__}): name a file that"
            " `repro export` wrote."
        ) from error
    g, _ = build(config)
    g.load_state_dict(weights)
    return config, g, metadata["precision"]


def model_card(record: dict, preset: str, score: dict, file: str) -> str:
    """What the generator is, how it was made and scored, and what it is for, as Markdown. score: of the
    exported step.
    """
    config, made = record["config"], record["provenance"]
    scale, of = config["preset"], record["definition"]
    blocks = {"attention": config["attention_at"], "a residual block": config["residual_at"]}
    placed = [f"{block} at {', '.join(map(str, places))}" for block, places in blocks.items() if places]
    recipe = config["recipe"]
    classes = recipe["conditioning"] != "unconditional"
    kind = "A class-conditional" if classes else "An unconditional"
    dcgan = recipe.get("network") == "dcgan"  # whose blocks stand where its codebase has them
    network = "the DCGAN pair of heykeetae" if dcgan else " and ".join(placed) or "no block"
    scores = pd.DataFrame(
        [(name, float(value)) for name, value in score.items() if name not in ("step", "kid_by_class")],
        columns=["score", "value"],
    )
    return f"""# {record["row"]}, seed {config["seed"]}: a generator of {made["data"].replace("_", " ")}\
 images, {scale["resolution"]} px

{kind} generator of Self-Attention GAN (arXiv 1805.08318), trained by this project to\
 study the paper, not to make good pictures: base width
{scale["channels"]}, {score["step"]:,} updates of batch {scale["batch_size"]}, {network},\
 recipe `{record["recipe"]}`.

* **Use**: `repro sample {file} --n 64{" --class 3" if classes else ""} --seed 0 --out grid.png`; in Python\
 `repro.reports.export.generator(path)` gives the configuration and the network,
  which takes latents (B, {scale["z_dim"]}) and classes (B,) below {config["num_classes"]}\
{"" if classes else " (which it ignores)"},\
 and gives images in -1 .. 1.
* **Training data**: {made["images"]:,} images, SHA-256 of images and labels\
 `{made["data_fingerprint"][:16]}…`.\
 Their licence applies to what is made of them.
* **Selection**: the {runs.SELECTION} of this run.
* **Made again by**: `{provenance.command(record, preset, config["seed"])}`,\
 code {", then ".join(provenance.revisions(record))}.
* **Limits**: small, briefly trained, scored with\
 the features of {labels.EXTRACTOR_LABELS[of["extractor"]]};\
 the scores compare with no published ones unless these are Inception's.

{of["samples"]:,} samples against {of["references"]:,} training images:

{tables.to_markdown(tables.rounded(scores))}
"""
