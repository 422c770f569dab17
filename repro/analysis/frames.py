"""From run folders to frames and tables. No torch here: a reader with committed runs waits for nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from .. import paper, runs
from ..config import plain
from ..errors import ReproError, SizeNotAvailable
from ..presets import Preset
from ..studies.study import Study, configure, run_name

# name -> (heading, whether a larger value is better, digits shown)
METRICS = {
    "fid": ("FID", False, 1),
    "is": ("IS", True, 2),
    "intra_fid": ("intra FID", False, 1),
    "consistency": ("consistency", True, 3),
    "consistency_mirrored": ("consistency, mirrored", True, 3),
    "consistency_turned": ("consistency, turned", True, 3),
    "diversity": ("diversity", True, 2),
    "fid_clean": ("FID, clean-fid", False, 1),
    "kid": ("KID", False, 4),
    "kid_clean": ("KID, clean-fid", False, 4),
    "is_10": ("IS in ten splits", True, 2),
    "precision": ("precision", True, 3),
    "recall": ("recall", True, 3),
    "intra_kid": ("intra KID", False, 4),
    **{
        f"{metric}_lite2": of
        for metric, of in {"fid": ("FID", False, 1), "kid": ("KID", False, 4), "is": ("IS", True, 2)}.items()
    },
}
ATTENTION = {  # quantity of attention.statistics -> what it is
    "distance": "mean attended distance (sides of the image)",
    "distance_uniform": "distance under uniform attention (sides of the image)",
    "distance_nearest": "distance of the nearest key (sides of the image)",
    "distance_3x3": "distance under equal attention to the nearest 3x3 keys (sides of the image)",
    "entropy": "entropy (share of uniform attention's)",
    "colour": "colour difference to what is attended (grey levels)",
    "colour_other": "colour difference under another image's map (grey levels)",
    "colour_uniform": "colour difference under uniform attention (grey levels)",
    "colour_3x3": "colour difference under equal attention to the nearest 3x3 keys (grey levels)",
}
TEST_SPLITS = ("validation", "valid", "val", "test")  # as data.TEST_SPLITS, which would load torch
SHOWN = (
    "fid",
    "is",
    "intra_fid",
    "consistency",
    "consistency_mirrored",
    "consistency_turned",
)  # in the tables; `all_scores` has the rest
PIXELS = ("consistency", "consistency_mirrored", "consistency_turned", "diversity")  # no extractor in them
EXTRACTOR_LABELS = {
    "efficientnet_lite0": "EfficientNet-Lite0",
    "efficientnet_lite2": "EfficientNet-Lite2",
    "inception": "Inception",
}
SHORT_LABELS = {"efficientnet_lite0": "Lite0", "efficientnet_lite2": "Lite2", "inception": "Inception"}


def records(study: Study, table: paper.Table) -> dict[tuple[str, int], dict]:
    """The run records of a table by (row, seed); rows that do not exist at the resolution or have not run are
    left out, a run that broke down before its first score is not.

    Raises ReproError when two of them were scored by different definitions: such scores never share a column.
    """
    out = {}
    for row in table.rows:
        try:
            name = run_name(row, study.preset)
        except SizeNotAvailable:
            continue
        for seed in range(study.seeds):
            record = study.run(name, seed).read()
            if record is not None and (record.get("final") or runs.unstable(record)):
                out[row.name, seed] = record
    check_scored_alike(table.name, out.values())
    return out


def check_scored_alike(what: str, found: Iterable[dict]) -> None:
    """Raise ReproError when runs were scored by different definitions: such scores never stand beside each
    other.
    """
    definitions = {
        repr(sorted(r["definition"].items())) + f" on data {r['config'].get('data_fingerprint')}"
        for r in found
    }
    if len(definitions) > 1:
        raise ReproError(
            f"The runs of {what} were scored in different ways ({' / '.join(definitions)}): score them alike."
        )


def heading(metric: str, preset: Preset) -> str:
    """The metric's name with the extractor it rests on, as shown over every column and axis."""
    name = METRICS[metric][0]
    extractor = "efficientnet_lite2" if metric.endswith("_lite2") else preset.extractor
    return name if metric in PIXELS else f"{name} ({SHORT_LABELS[extractor]})"


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
                return (
                    f"{heading('fid', study.preset)} of {real['images']:,} {others} {real['fid']:.1f}, of as"
                    f" much noise {noise['fid']:.1f}; {heading('is', study.preset)} {real['is']:.2f} and"
                    f" {noise['is']:.2f}"
                )
    return ""


def unavailable(row: paper.Row, preset: Preset) -> str | None:
    """Why the row has no runs at this preset, or None when it can have."""
    try:
        configure(row, preset)
    except SizeNotAvailable:
        return f"n/a at {preset.resolution} px"
    if preset.rows and run_name(row, preset) not in preset.rows:
        return "not in this study"
    return None


def scores(study: Study, table: paper.Table) -> pd.DataFrame:
    """Tidy scores, a line per row, seed, scored step and metric: row, seed, step, metric, value, and whether
    it is final, best.
    """
    lines = []
    for (row, seed), record in records(study, table).items():
        for score in record["scores"]:
            of_step = {"row": row, "seed": seed, "step": score["step"]}
            marks = {kind: record[kind]["step"] == score["step"] for kind in ("final", "best")}
            lines += [of_step | {"metric": m, "value": score[m]} | marks for m in METRICS if m in score]
    frame = pd.DataFrame(lines, columns=["row", "seed", "step", "metric", "value", "final", "best"])
    return frame.astype({"final": bool, "best": bool})


def history(study: Study, table: paper.Table) -> pd.DataFrame:
    """Losses, logits and gammas as logged: a line per row, seed and step; gammas in columns such as "gamma G
    16x16".
    """
    lines = []
    for (row, seed), record in records(study, table).items():
        for entry in record["history"]:
            line = {"row": row, "seed": seed} | {k: v for k, v in entry.items() if not k.startswith("gamma")}
            line |= {
                f"gamma {n.upper()} {stage}": v for n in "gd" for stage, v in entry[f"gamma_{n}"].items()
            }
            lines.append(line)
    return pd.DataFrame(lines)


def attention(study: Study, table: paper.Table) -> pd.DataFrame:
    """What attention maps attend to, by row, seed, scored step and block ("G 16x16"): a column a quantity of
    ATTENTION, and gamma.
    """
    lines = []
    for (row, seed), record in records(study, table).items():
        gamma = {entry["step"]: entry for entry in record["history"]}
        for entry in record.get("attention", []):
            for block in entry["distance"]:
                network, stage = block.split()
                at_step = gamma.get(entry["step"], {}).get(f"gamma_{network.lower()}", {})
                of = {"row": row, "seed": seed, "step": entry["step"], "block": block}
                lines.append(
                    of
                    | {quantity: entry[quantity][block] for quantity in ATTENTION if quantity in entry}
                    | {"gamma": at_step.get(stage, math.nan)}
                )
    return pd.DataFrame(lines, columns=["row", "seed", "step", "block", *ATTENTION, "gamma"])


def present_attention(study: Study, table: paper.Table) -> pd.DataFrame:
    """`attention` at the last scored step for a reader: a line per row and block, means over seeds; strings
    throughout.
    """
    frame = attention(study, table)
    if frame.empty:
        return pd.DataFrame(columns=["", "block", *ATTENTION.values()])
    last = frame[frame["step"] == frame.groupby(["row", "seed"])["step"].transform("max")]
    # the gate's sign is arbitrary: values of either sign can be learned
    last = last.assign(gamma=last["gamma"].abs())
    means = last.groupby(["row", "block"], sort=False).mean(numeric_only=True).reset_index()
    labels = {row.name: row.label for row in table.rows}
    shown = {
        "": means["row"].map(labels),
        "block": means["block"],
        "size of gamma": means["gamma"].map("{:.3f}".format),
    }
    shown |= {
        text: means[quantity].map(("{:.1f}" if "colour" in quantity else "{:.3f}").format)
        for quantity, text in ATTENTION.items()
        if means[quantity].notna().any()
    }
    return pd.DataFrame(shown)


def neighbours(study: Study, table: paper.Table) -> pd.DataFrame:
    """How near samples come to training images in feature space, and how near other training images do: a
    line a row; strings.
    """
    lines = []
    for row in table.rows:
        found = [
            r["neighbours"]
            for (name, _), r in records(study, table).items()
            if name == row.name and r.get("neighbours")
        ]
        if found:
            of_real = [n["real"] for n in found if "real" in n]
            mean = lambda values: f"{sum(values) / len(values):.2f}" if values else "–"
            lines.append(
                {
                    "": row.label,
                    "samples": mean([n["samples"] for n in found]),
                    "other training images": mean(of_real),
                }
            )
    return pd.DataFrame(lines)


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


def summary(study: Study, table: paper.Table) -> pd.DataFrame:
    """The table in numbers: a line per row, with the paper's scores, ours (mean, spread and number of seeds),
    and differences.

    `<metric>_difference` is the mean over seeds of the paired difference to the reference row; `<metric>_sd`
    the standard deviation over training seeds (missing for one seed), `<metric>_seeds` how many have that
    score.
    """
    tidy = scores(study, table)
    found = records(study, table)
    lines = []
    for row in table.rows:
        line = {"row": row.name, "label": row.label}
        for metric in ("fid", "is", "intra_fid"):
            published = row.published.get(metric)
            line[f"paper_{metric}"] = published.value if published else math.nan
            line[f"paper_{metric}_certainty"] = published.certainty if published else ""
        of_row = [record for (name, _), record in found.items() if name == row.name]
        line["status"] = unavailable(row, study.preset) or _status(of_row)
        line["seeds"] = len(of_row)
        for metric in METRICS:
            final = _final(tidy, row.name, metric)
            if final.empty:
                continue
            reference = _final(tidy, table.reference, metric)
            line[f"{metric}_mean"], line[f"{metric}_sd"], line[f"{metric}_seeds"] = (
                final.mean(),
                final.std(),
                len(final),
            )
            line[f"{metric}_difference"] = (final - reference).mean()
        best = tidy[(tidy["row"] == row.name) & (tidy["metric"] == "fid") & tidy["best"]]
        line["fid_best_mean"] = best["value"].mean()
        line["g_parameters"], line["d_parameters"] = (
            (of_row[0]["parameters"][n] for n in ("generator", "discriminator"))
            if of_row
            else (math.nan, math.nan)
        )
        lines.append(line)
    return pd.DataFrame(lines)


def _final(tidy: pd.DataFrame, row: str, metric: str) -> pd.Series:
    """Final scores by seed."""
    chosen = tidy[(tidy["row"] == row) & (tidy["metric"] == metric) & tidy["final"]]
    return chosen.set_index("seed")["value"]


def _status(found: list[dict]) -> str:
    if not found:
        return "not run"
    words = {
        r["status"] if r["status"] == "complete" else f"{r['status']} at step {r['step']}" for r in found
    }
    return ", ".join(sorted(words))


def present(study: Study, table: paper.Table) -> pd.DataFrame:
    """The table for a reader: paper | ours (seeds, spread) | difference Δ to the reference row; strings
    throughout.
    """
    numbers = summary(study, table)
    shown = pd.DataFrame({"": numbers["label"]})
    for metric in ("fid", "is", "intra_fid"):
        if numbers[f"paper_{metric}"].notna().any():
            shown[f"{paper_heading(study)}: {METRICS[metric][0]}"] = [
                _paper_cell(v, c)
                for v, c in zip(numbers[f"paper_{metric}"], numbers[f"paper_{metric}_certainty"], strict=True)
            ]
    for metric, (name, _, digits) in METRICS.items():
        if f"{metric}_mean" not in numbers or metric not in SHOWN:
            continue
        shown[f"ours: {heading(metric, study.preset)}"] = _cells(numbers, metric, digits)
        if metric not in PIXELS:
            shown[f"Δ {name}"] = [
                "reference" if row == table.reference else _number(v, digits, sign=True)
                for row, v in zip(numbers["row"], numbers[f"{metric}_difference"], strict=True)
            ]
        if metric == "fid":
            shown["best FID"] = [_number(v, digits) for v in numbers["fid_best_mean"]]
    shown["seeds"] = numbers["seeds"].astype(str)
    if not numbers["status"].str.fullmatch("complete|n/a.*|not in this study").all():
        shown["status"] = numbers["status"]
    return shown


def all_scores(study: Study, table: paper.Table) -> pd.DataFrame:
    """Every kind of score that the runs recorded, ours only: a line per row, mean and spread over seeds;
    strings throughout.
    """
    numbers = summary(study, table)
    shown = pd.DataFrame({"": numbers["label"]})
    for metric, (_, _, digits) in METRICS.items():
        if f"{metric}_mean" in numbers:
            shown[heading(metric, study.preset)] = _cells(numbers, metric, digits)
    return shown


def averaged(study: Study, table: paper.Table) -> pd.DataFrame:
    """Scores of the last step by the raw generator, and by an average of its weights that training never saw,
    with batch-norm statistics of its own samples: a line a row, means over the seeds that have both; strings
    throughout.
    """
    lines = []
    for row in table.rows:
        both = [
            (r["final"], r["shadow"])
            for (name, _), r in records(study, table).items()
            if name == row.name and r.get("shadow")
        ]
        if both:
            line = {"": row.label}
            for metric in ("fid", "is", "kid"):
                raw, average = (sum(of[k][metric] for of in both) / len(both) for k in (0, 1))
                digits = METRICS[metric][2]
                line |= {
                    f"{heading(metric, study.preset)}, raw": f"{raw:.{digits}f}",
                    f"{heading(metric, study.preset)}, averaged weights": f"{average:.{digits}f}",
                }
            lines.append(
                line
                | {
                    "average over the last": f"{1 / (1 - both[0][1]['decay']):,.0f} updates",
                    "seeds": str(len(both)),
                }
            )
    return pd.DataFrame(lines)


def extractors_agree(study: Study, table: paper.Table) -> pd.DataFrame:
    """Whether the order of rows depends on the extractor: final scores by the preset's extractor beside the
    second one's, means over the seeds that have both. A line a score; strings: rank correlations over rows,
    how many pairs of rows have the same order, and the pairs that change it. No line where no run was scored
    by both.
    """
    tidy = scores(study, table)
    labels = {row.name: row.label for row in table.rows}
    lines = []
    for metric in ("fid", "kid", "is"):
        both = [metric, f"{metric}_lite2"]
        final = tidy[tidy["final"] & tidy["metric"].isin(both)].pivot(
            index=["row", "seed"], columns="metric", values="value"
        )
        if set(both) - set(final):
            continue
        means = final.dropna().groupby("row").mean()
        pairs = list(itertools.combinations([name for name in labels if name in means.index], 2))
        changed = [pair for pair in pairs if np.prod(means.loc[pair[0], both] - means.loc[pair[1], both]) < 0]
        rank = lambda method, means=means, both=both: _number(
            means[both[0]].corr(means[both[1]], method=method), 2
        )
        lines.append(
            {
                "": " against ".join(heading(name, study.preset) for name in both),
                "rows": str(len(means)),
                "Spearman": rank("spearman"),
                "Kendall": rank("kendall"),
                "pairs in the same order": f"{len(pairs) - len(changed)} of {len(pairs)}",
                "pairs that change their order": (
                    "; ".join(f"{labels[a]} and {labels[b]}" for a, b in changed) or "none"
                ),
            }
        )
    return pd.DataFrame(
        lines,
        columns=[
            "",
            "rows",
            "Spearman",
            "Kendall",
            "pairs in the same order",
            "pairs that change their order",
        ],
    )


def _paper_cell(value: float, certainty: str) -> str:
    if math.isnan(value):
        return "–"
    marks = {
        paper.SECOND_HAND: " (second-hand)",
        paper.OFF_A_PLOT: " (off a plot)",
        paper.UNVERIFIED: " (not verified)",
    }
    return f"{value:g}{marks.get(certainty, '')}"


def _number(value: float, digits: int, sign: bool = False) -> str:
    return "–" if math.isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}"


def _cells(numbers: pd.DataFrame, metric: str, digits: int) -> list[str]:
    """Mean and, over two seeds or more, standard deviation, with the seeds where not all have this score;
    where nothing was scored the status (not run, n/a), or a dash.
    """
    cells = []
    for mean, sd, of, seeds, status in numbers[
        [f"{metric}_mean", f"{metric}_sd", f"{metric}_seeds", "seeds", "status"]
    ].itertuples(index=False):
        if math.isnan(mean):
            cells.append("–" if status == "complete" else status)
        else:
            spread = "" if math.isnan(sd) else f" ± {sd:.{digits}f}"
            cells.append(
                f"{mean:.{digits}f}{spread}" + (f" ({of:.0f} of {seeds} seeds)" if of < seeds else "")
            )
    return cells


def named_values(study: Study, table: paper.Table) -> dict[str, float]:
    """Every final score by "row/seed/metric", rounded to what a regression should notice; for checks of
    printed text.
    """
    tidy = scores(study, table)
    final = tidy[tidy["final"]].sort_values(["row", "seed", "metric"])
    return {f"{r.row}/seed{r.seed}/{r.metric}": float(f"{r.value:.5g}") for r in final.itertuples()}


def difference_to(study: Study, reference: Study, tables: Iterable[str]) -> pd.DataFrame:
    """Final scores here beside those of another folder of the same preset: a line per row, seed and metric of
    both.
    """
    lines = []
    for name in tables:
        here, there = (scores(s, paper.WITH_NOTEBOOK[name]) for s in (study, reference))
        here, there = (t[t["final"]].drop(columns=["step", "best", "final"]) for t in (here, there))
        lines.append(
            here.merge(there, on=["row", "seed", "metric"], suffixes=("_here", "_committed")).assign(
                table=name
            )
        )
    both = pd.concat(lines, ignore_index=True) if lines else pd.DataFrame()
    return both.assign(difference=both["value_here"] - both["value_committed"])


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


def setup(study: Study) -> pd.DataFrame:
    """The scale of the study in a few lines for a reader."""
    p = study.preset
    lines = {
        "data": f"{data_name(study)}, {p.resolution}x{p.resolution} pixels",
        "networks": f"released code's ResNet pair, base width {p.channels}, latents of {p.z_dim}",
        "budget": f"{p.steps:,} generator updates of batch {p.batch_size}",
        "learning rates": f"the recipe's times {p.learning_rate_scale:g}",
        "batch-norm momentum": "the recipe's" if p.bn_momentum is None else f"{p.bn_momentum:g}",
        "training seeds": str(study.seeds),
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


def to_markdown(table: pd.DataFrame) -> str:
    """The table as Markdown, without its index and with its cells as they are."""
    return table.to_markdown(index=False, disable_numparse=True)


def rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers to four digits, as strings, for `show`."""
    return frame.map(lambda v: f"{v:.4g}" if isinstance(v, float) else str(v))


def show(table: pd.DataFrame):
    """The table as a notebook displays it, with its texts in full."""
    from IPython.display import Markdown

    return Markdown(to_markdown(table))
