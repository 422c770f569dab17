"""The generated parts of docs/learned.md: what several studies found, beside one another."""

from __future__ import annotations

import pandas as pd

from .. import paper
from ..analysis import findings, frames, fresh_seeds, gains, tables
from ..analysis.comparisons import judge
from ..analysis.plan import read as read_plan
from ..analysis.sentences import in_short
from ..analysis.statistics import OPEN, any_false
from ..analysis.verdicts import by_all_seeds, comparisons, hours_of, verdicts
from ..claims import CLAIMS
from ..errors import choose
from ..studies.study import Study, configure

NETWORKS = {"resnet": "the released code's", "dcgan": "heykeetae's"}


def claims(studies: list[Study]) -> list[str]:
    """Every claim that a study with a plan has tried: the verdict, on how many seeds, what the runs took, and
    how many seeds would tell more; and how likely it is that one of the verdicts is false.
    """
    lines, tested = [], []  # tested: how many comparisons each claim has
    for study in studies:
        plan = read_plan(study)
        frame = comparisons(study) if plan else pd.DataFrame()
        latest = by_all_seeds(study)
        for claim, verdict in verdicts(study).set_index("claim")["verdict"].items() if len(frame) else ():
            own = frame[frame["claim"] == claim]
            if own.empty:
                continue
            tested.append(len(plan.of(claim)))
            open_ones = own[own["outcome"] == OPEN]
            lines.append(
                {
                    "claim": claim,
                    "study": f"[`{study.preset.name}`](../results/{study.preset.name}/report.md)",
                    "verdict": verdict + beside(latest, claim),
                    "seeds": own["latest_seeds"].max(),
                    "hours of its runs": f"{hours_of(study, claim):.1f}",
                    "seeds for an interval as narrow as the margin": _seeds(
                        open_ones["needed"].max(skipna=False), verdict, plan.most_seeds
                    ),
                }
            )
    if not lines:
        return ["No study with a plan yet."]
    return [
        tables.to_markdown(pd.DataFrame(lines).sort_values("claim", kind="stable")),
        (
            f"These are {len(tested)} verdicts. If nothing differed in any study and each were tested at 5%,"
            " the chance that at least one claim is wrongly supported or contradicted would be about"
            f" {any_false(tested):.0%} where comparisons are independent. A claim of several comparisons"
            " counts for less, as it is supported only if all of them are. Hours are of one core, or of a GPU"
            " that several runs shared; claims share runs, so they do not add up."
        ),
    ]


def beside(latest: dict[str, str], claim: str) -> str:
    """What stands behind a claim's verdict where all seeds say something else."""
    return f" (all seeds: {latest[claim]})" if claim in latest else ""


def _seeds(needed: float, verdict: str, most: int) -> str:
    if not verdict.startswith(OPEN):
        return "–"
    return f"{needed:.0f}" if needed == needed else f"more than {most}"


def on_claims(studies: list[Study], *names: str) -> list[str]:
    """What the comparisons of claims found in one study or several, both by name: a list, claim by claim."""
    tried = [claim.name for claim in CLAIMS if claim.name in names]
    of = [_named(studies, name) for name in names if name not in tried]
    which = lambda study: f", `{study.preset.name}`" if len(of) > 1 else ""
    return [
        tables.listed(
            f"{claim}{which(study)}. {in_short(j, read_plan(study), study)}"
            for claim in tried
            for study in of
            for j in judge(study)
            if j.comparison.claim == claim
        )
    ]


def on_notebook(studies: list[Study], study: str, notebook: str) -> list[str]:
    """What a study found on a notebook's question."""
    return [tables.listed(findings.found(_named(studies, study), notebook))]


def seed_by_seed(studies: list[Study], known: str, *names: str) -> list[str]:
    """The comparison of C4 in a study, in one that asked again on fresh seeds, and in others. known: how many
    seeds of the first were known before its plan.
    """
    first, again, *others = (_named(studies, name) for name in names)
    (c,) = read_plan(first).of("C4")
    return [
        tables.to_markdown(fresh_seeds.show_by_processor((first, again, *others), c)),
        tables.listed(fresh_seeds.in_words(first, again, c, int(known))),
    ]


def growth(studies: list[Study], study: str, *names: str) -> list[str]:
    """Whether what a study's comparisons of claims gain grows with training."""
    return [tables.listed(gains.growth_in_words(_named(studies, study), *names))]


def at_costs(studies: list[Study], study: str, claim: str, *costs: str) -> list[str]:
    """What a claim's comparisons gain if a step of the dearer rows cost so much."""
    return [tables.to_markdown(gains.at_costs(_named(studies, study), claim, [float(c) for c in costs]))]


def _named(studies: list[Study], name: str) -> Study:
    by_name = {study.preset.name: study for study in studies}
    return by_name[choose("study with results", name, by_name)]


def entropies(studies: list[Study]) -> list[str]:
    """How uniform attention maps are in every study and pair of networks: the entropy of blocks as a share of
    that of equal weights, at the last score and the lowest of all, and the absolute value of D's scale of the
    block at the end.
    """
    lines = []
    for study in studies:
        of_networks: dict[str, dict] = {}
        for table in paper.WITH_NOTEBOOK.values():
            rows = {row.name: row for row in table.rows}
            for (row, seed), record in frames.records(study, table).items():
                if record.get("attention"):
                    network = configure(rows[row], study.preset).recipe.network
                    of_networks.setdefault(network, {})[record["row"], seed] = record
        for network, found in of_networks.items():
            records = list(found.values())
            gammas = [abs(gamma) for r in records for gamma in r["history"][-1]["gamma_d"].values()]
            line = {"study": f"`{study.preset.name}`", "networks": NETWORKS[network], "runs": len(records)}
            for block in "DG":
                line[f"{block}, last score"] = _between(_entropies(records, block, last=True), ".2%")
                line[f"{block}, lowest"] = f"{_entropies(records, block)[0]:.2%}"
            lines.append(line | {"scale γ of D's block": _between(sorted(gammas), ".2f")})
    return [tables.to_markdown(pd.DataFrame(lines))] if lines else ["No study with attention yet."]


def _entropies(records: list[dict], block: str, last: bool = False) -> list[float]:
    """Entropies of the maps of a network's blocks, the lowest first; at the last score or at all."""
    scored = [maps for r in records for maps in r["attention"][-1 if last else 0 :]]
    return sorted(v for maps in scored for name, v in maps["entropy"].items() if name.startswith(block))


def _between(values: list[float], form: str) -> str:
    return f"{values[0]:{form}} to {values[-1]:{form}}"


PARTS = {  # what stands between the page's markers, by name
    "claims": claims,
    "comparisons": on_claims,
    "findings": on_notebook,
    "seed-by-seed": seed_by_seed,
    "growth": growth,
    "costs": at_costs,
    "entropies": entropies,
}
