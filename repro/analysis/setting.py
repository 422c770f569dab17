"""What a study is: its data, scale, scores and cost, in words and tables. No torch here."""

from __future__ import annotations

import math
from collections import Counter

import pandas as pd

from .. import paper, runs
from ..config import plain
from ..errors import SizeNotAvailable
from ..presets import TEST_SPLITS, Preset
from ..studies.study import Study, configure
from .frames import records
from .labels import EXTRACTOR_LABELS, SHORT_LABELS, heading


def paper_heading(study: Study) -> str:
    """What stands over the paper's numbers: "paper" only where ours are measured as they were, else with what
    they are.
    """
    preset = study.preset
    alike = ("imagenet", 128, "inception", 50_000, 50_000)
    ours = (data_name(study), preset.resolution, preset.extractor, preset.samples, preset.references)
    return "paper" if ours == alike else f"paper ({paper.SETTING})"


def data_name(study: Study) -> str:
    """The data the study's runs were trained on; the preset's own where there are none."""
    found = (record for table in paper.WITH_NOTEBOOK.values() for record in records(study, table).values())
    record = next(found, None)
    return (record["provenance"]["data"] if record else study.preset.dataset).replace("_", " ")


def definition(study: Study) -> str:
    """How our scores are measured, in words: extractor, images, reference."""
    for table in paper.WITH_NOTEBOOK.values():
        for record in records(study, table).values():
            d = record["definition"]
            label, short = EXTRACTOR_LABELS[d["extractor"]], SHORT_LABELS[d["extractor"]]
            name = f"{label} features" + (f' ("{short}")' if short != label else "")
            return f"{name}, {d['samples']:,} samples against {d['references']:,} training images"
    return "no scored runs"


def scale(study: Study) -> str:
    """What other real images and uniform noise score by the same definition, as a perfect and a useless
    generator would; or "".
    """
    for table in paper.WITH_NOTEBOOK.values():
        for record in records(study, table).values():
            if record.get("real"):
                real, noise = record["real"], record["noise"]
                others = (
                    "test images"
                    if record["definition"].get("real_split") in TEST_SPLITS
                    else "other training images"
                )
                as_many = "as many" if noise["images"] == real["images"] else f"{noise['images']:,}"
                return (
                    f"{heading('fid', study.preset)} of {real['images']:,} {others} {real['fid']:.1f},"
                    f" of {as_many} images of noise {noise['fid']:,.1f}; {heading('is', study.preset)}"
                    f" {real['is']:.2f} and {noise['is']:.2f}"
                )
    return ""


def changes(study: Study, table: paper.Table) -> pd.DataFrame:
    """What each row changes against the table's reference row, field by field as it is resolved at the
    preset, and why.
    """

    def plain_of(row: paper.Row) -> dict:
        config = configure(row, study.preset)
        return plain(config.resolved_recipe()) | {"attention_at": list(config.attention_at)}

    reference = next(row for row in table.rows if row.name == table.reference)
    lines = []
    for row in table.rows:
        of, to = plain_of(row), plain_of(reference)
        fields = [
            f"{name} {of.get(name, 'default')}"
            for name in sorted(of.keys() | to.keys())
            if name != "name" and of.get(name) != to.get(name)
        ]
        lines.append({"": row.label, "changes": "; ".join(fields) or "–", "note": row.note or "–"})
    return pd.DataFrame(lines)


def recipe_frame(preset: Preset, table: paper.Table) -> pd.DataFrame:
    """What each row changes, resolved: the fields that differ between the table's rows, with blocks and
    learning rates.
    """
    lines = []
    for row in table.rows:
        try:
            config = configure(row, preset)
        except SizeNotAvailable:
            lines.append({"": row.label, "note": f"n/a at {preset.resolution} px"})
            continue
        lines.append(
            {
                "": row.label,
                "attention at": ", ".join(map(str, config.attention_at)) or "–",
                "residual at": ", ".join(map(str, config.residual_at)) or "–",
                "SN": "G and D" if config.recipe.sn_generator else "D",
                "D updates": config.recipe.d_steps,
                "lr G": f"{config.lr_g:.1e}",
                "lr D": f"{config.lr_d:.1e}",
                "conditioning": config.recipe.conditioning.replace("_", " "),
                "note": row.note,
            }
        )
    shown = pd.DataFrame(lines).fillna("–")
    return shown[[c for c in shown if c in ("", "note") or shown[c].nunique() > 1]]


def seeds(study: Study, table: str = "") -> str:
    """How many training seeds the rows of a table, or of all the study's tables, have run with: "3",
    "6 to 8".
    """
    tables = [paper.WITH_NOTEBOOK[name] for name in ([table] if table else study.preset.tables)]
    done = {(record["row"], seed) for of in tables for (_, seed), record in records(study, of).items()}
    counts = Counter(row for row, _ in done).values() or [study.seeds]
    return str(max(counts)) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"


def setup(study: Study, table: str = "") -> pd.DataFrame:
    """The scale of the study in a few lines for a reader, with the seeds of a table's rows or of all."""
    p = study.preset
    times = f"{p.learning_rate_scale:g}"
    if table == paper.STRESS.name:
        times = f"{' or '.join(map(str, paper.STRESS_TIMES))}, by row"
    lines = {
        "data": f"{data_name(study)}, {p.resolution}x{p.resolution} pixels",
        "networks": f"released code's ResNet pair, base width {p.channels}, latents of {p.z_dim}",
        "budget": f"{p.steps:,} generator updates of batch {p.batch_size}",
        "learning rates": f"the recipe's times {times}",
        "batch-norm momentum": "the recipe's" if p.bn_momentum is None else f"{p.bn_momentum:g}",
        "training seeds": seeds(study, table),
        "scores": definition(study),
        "for scale": scale(study) or "not recorded",
        "final and best": f"final is the last step; best is the {runs.SELECTION}",
    }
    return pd.DataFrame(lines.items(), columns=["", "this study"])


def cost(study: Study) -> pd.DataFrame:
    """Parameters, speed and time of each run that the tables share."""
    lines = {}
    for table in paper.WITH_NOTEBOOK.values():
        for (_row, seed), record in records(study, table).items():
            p = record["provenance"]
            lines[record["row"], seed] = {
                "run": record["row"],
                "seed": seed,
                "G parameters": f"{record['parameters']['generator']:,}",
                "D parameters": f"{record['parameters']['discriminator']:,}",
                "steps": f"{record['step']:,}",
                "D updates a step": str(record["config"]["recipe"]["d_steps"]),
                "images per second": f"{p.get('images_per_second', math.nan):.0f}",
                "minutes": f"{p['wall_seconds'] / 60:.1f}",
                "arithmetic": p["precision"],
            }
    return pd.DataFrame(lines.values())
