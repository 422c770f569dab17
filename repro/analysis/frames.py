"""From run folders to frames and tables. No torch here: a reader with committed runs waits for nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

import pandas as pd

from .. import paper, provenance
from ..errors import ReproError, SizeNotAvailable
from ..presets import Preset
from ..studies.study import Study, configure, run_name
from .labels import ATTENTION, METRICS


def records(study: Study, table: paper.Table) -> dict[tuple[str, int], dict]:
    """The records of a table's finished runs by (row, seed); rows that do not exist at the resolution are
    left out, a run that broke down before its first score is not.

    Raises ReproError when two of them were scored by different definitions, as such scores never share a
    column, and for a run of another configuration.
    """
    out = {}
    for row in table.rows:
        try:
            name = run_name(row, study.preset)
        except SizeNotAvailable:
            continue
        for seed in range(study.seeds):
            if record := study.finished(name, seed):
                out[row.name, seed] = record
    check_scored_alike(table.name, out.values())
    return out


def half_of_noise(found: Iterable[dict]) -> float:
    """Half of the lowest FID of uniform noise that runs recorded; infinite where none did."""
    return min((r["noise"]["fid"] / 2 for r in found if r.get("noise")), default=math.inf)


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


def check_made_alike(found: dict[str, list[dict]]) -> None:
    """Raise ReproError where `made_differently` finds a seed."""
    for seed, differ in made_differently(found):
        raise ReproError(
            f"The runs of training seed {seed} ({', '.join(found)}) are compared with one another and"
            f" differ in what made them ({', '.join(differ)}): move their folders away and train them"
            " again, by one code on one machine."
        )


def made_differently(found: dict[str, list[dict]]) -> Iterator[tuple[int, list[str]]]:
    """The training seeds whose runs differ in what made them, and in what: the difference of two such runs is
    the machine's as well. found: by row, records in the order of seeds.
    """
    for seed, of_seed in enumerate(zip(*found.values(), strict=False)):
        first, *others = map(provenance.made_by, of_seed)
        if differ := [
            name for name in provenance.MADE_BY if any(made[name] != first[name] for made in others)
        ]:
            yield seed, differ


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


def summary(study: Study, table: paper.Table) -> pd.DataFrame:
    """The table in numbers: a line per row, with the paper's scores, ours (mean, spread and number of seeds),
    and differences.

    `<metric>_difference` is the mean over seeds of the paired difference to the reference row; `<metric>_sd`
    the standard deviation over training seeds (missing for one seed), `<metric>_seeds` how many have that
    score.
    """
    tidy = scores(study, table)
    found = records(study, table)
    by_row = tidy[tidy["final"]].set_index("seed").groupby(["row", "metric"])["value"]
    final = dict(iter(by_row))
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
            if (row.name, metric) not in final:
                continue
            ours, reference = final[row.name, metric], final.get((table.reference, metric))
            line[f"{metric}_mean"], line[f"{metric}_sd"], line[f"{metric}_seeds"] = (
                ours.mean(),
                ours.std(),
                len(ours),
            )
            line[f"{metric}_difference"] = math.nan if reference is None else (ours - reference).mean()
        best = tidy[(tidy["row"] == row.name) & (tidy["metric"] == "fid") & tidy["best"]]
        line["fid_best_mean"] = best["value"].mean()
        line["g_parameters"], line["d_parameters"] = (
            (of_row[0]["parameters"][n] for n in ("generator", "discriminator"))
            if of_row
            else (math.nan, math.nan)
        )
        lines.append(line)
    return pd.DataFrame(lines)


def _status(found: list[dict]) -> str:
    if not found:
        return "not run"
    words = {
        r["status"] if r["status"] == "complete" else f"{r['status']} at step {r['step']}" for r in found
    }
    return ", ".join(sorted(words))


def named_values(study: Study, table: paper.Table) -> dict[str, float]:
    """Every final score by "row/seed/metric", rounded to what a regression should notice; for checks of
    printed text.
    """
    tidy = scores(study, table)
    final = tidy[tidy["final"]].sort_values(["row", "seed", "metric"])
    return {f"{r.row}/seed{r.seed}/{r.metric}": float(f"{r.value:.5g}") for r in final.itertuples()}


def difference_to(study: Study, reference: Study, tables: Iterable[str]) -> pd.DataFrame:
    """Final scores here beside those of another folder of the same preset: a line per row, seed and metric of
    both. Raises ReproError when the two were scored in different ways.
    """
    lines = [pd.DataFrame(columns=["value_here", "value_committed"], dtype=float)]
    for name in tables:
        of_both = (records(s, paper.WITH_NOTEBOOK[name]).values() for s in (study, reference))
        check_scored_alike(name, itertools.chain(*of_both))
        here, there = (scores(s, paper.WITH_NOTEBOOK[name]) for s in (study, reference))
        here, there = (t[t["final"]].drop(columns=["step", "best", "final"]) for t in (here, there))
        lines.append(
            here.merge(there, on=["row", "seed", "metric"], suffixes=("_here", "_committed")).assign(
                table=name
            )
        )
    both = pd.concat(lines, ignore_index=True)
    return both.assign(difference=both["value_here"] - both["value_committed"])
