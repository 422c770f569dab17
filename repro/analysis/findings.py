"""What a study found, in a few sentences of Markdown: the first words of each notebook, and of the command.
Every sentence follows from the plan and the records.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable

import numpy as np

from .. import paper, runs
from ..errors import choose
from ..studies.study import Study, run_name
from . import frames, labels, setting
from .comparisons import judge
from .effects import effects_in_words
from .lottery import spreads_in_words
from .plan import read as read_plan
from .sentences import joined
from .standings import Standing, broken_down, standings, times_as_long
from .statistics import share
from .verdicts import NO_PLAN, NOT_TRIED, verdicts

UNIFORM_FROM = 0.99  # of uniform attention's entropy, where no plan says it
DEARER_FROM = 1.25  # times the cheapest row's step: below it a measured difference may be the machine's


def _listed(values: dict[str, float]) -> str:
    """Rows with their scores, the lowest first."""
    return ", ".join(f"{label}: {value:,.0f}" for label, value in sorted(values.items(), key=lambda v: v[1]))


def too_short(study: Study, found: list[Standing]) -> str:
    """Says that no row is clear of noise, where that is so; else an empty text."""
    if not found or len(_at_noise(found)) < len(found):
        return ""
    bound = frames.half_of_noise(r for row in found for r in row.records)
    return (
        f"**Too short to rank.** {labels.heading('fid', study.preset)} of every row is above {bound:,.0f},"
        " which is half of what uniform noise gets. At this level the order of rows says nothing."
    )


def _at_noise(found: list[Standing]) -> list[str]:
    """The rows whose mean FID at the last step is at least half of noise's."""
    bound = frames.half_of_noise(r for row in found for r in row.records)
    return [row.label for row in found if row.fid(row.last_step) >= bound]


def at_noise_in_words(study: Study) -> str:
    """How many rows are not clear of noise; "" where all are."""
    found = standings(study, (*_TABLES, paper.STRESS))
    near = len(_at_noise(found))
    return f"{near} of {len(found)} rows end above half of noise's FID." if near else ""


def order(study: Study, tables: Iterable[paper.Table]) -> list[str]:
    """The order of rows at the last step, and how much of it may be chance; or that it says nothing."""
    found = standings(study, tables)
    if len(found) < 2:
        return []
    short = too_short(study, found)
    if short:
        return [short]
    heading = labels.heading("fid", study.preset)
    text = (
        f"**Order at the last step** by {heading}, the lowest (best) first:"
        f" {_listed({row.label: row.fid(row.last_step) for row in found})}."
    )
    broken = broken_down(study, tables)
    left = f" Left out, as a run broke down: {joined(broken)}." if broken else ""
    return [f"{text} {_chance(found)}{left}"]


def _chance(found: list[Standing]) -> str:
    """How far seeds of one row lie apart, beside how far the rows' means do."""
    fids = [[record["final"]["fid"] for record in row.records] for row in found]
    several = [np.log(of_row) for of_row in fids if len(of_row) > 1]
    if not several:
        return "Each row has one seed, so the order may be chance."
    spread = math.sqrt(np.mean([np.var(of_row, ddof=1) for of_row in several]))
    means = [np.mean(np.log(of_row)) for of_row in fids]
    return (
        f"The seeds of one row differ by {100 * spread:.0f} per cent (standard deviation), the best and the"
        f" worst row by {100 * (max(means) - min(means)):.0f} per cent. An order of means is no verdict."
    )


def equal_cost(study: Study, tables: Iterable[paper.Table]) -> list[str]:
    """The order of rows at equal updates of G beside that at equal cost, where a step of some costs more."""
    found = standings(study, tables)
    dearer = [row for row in found if row.cost >= DEARER_FROM]
    if not dearer or too_short(study, found):
        return []
    budget = min(row.last_step * row.cost for row in found)
    updates = min(row.last_step for row in found)
    by_updates = {row.label: row.fid(updates) for row in found}
    by_cost = {row.label: row.fid(budget / row.cost) for row in found}
    first = [min(of, key=of.get) for of in (by_updates, by_cost)]
    costs = joined([f"{row.cost:.1f} times as much for {row.label}" for row in dearer])
    if read_plan(study):
        times = [times_as_long(row, [of for of in found if of not in dearer]) for row in dearer]
        costs += (
            " as for the other rows, by the plan, which counts arithmetic; measured, run beside run of equal"
            f" seed on machines that did other work too: {joined([f'{of:.1f}' for of in times])}"
        )
    else:
        costs += " as for the cheapest row, by the measured training time"
    told = (
        f"{first[0]} has the lowest mean both times."
        if first[0] == first[1]
        else f"The lowest mean is that of {first[0]} or of {first[1]}, by the budget. An order of means is no"
        " verdict."
    )
    return [
        f"**Equal cost.** A step costs {costs}. At equal updates of G the order is {_listed(by_updates)}. At"
        f" equal cost it is {_listed(by_cost)}. {told}"
    ]


def uniform(study: Study, tables: Iterable[paper.Table]) -> list[str]:
    """For each network whether its attention maps are uniform: entropy at the last scored step."""
    plan = read_plan(study)
    bound = plan.inert_from if plan else UNIFORM_FROM
    entropies: dict[str, dict] = {"D": {}, "G": {}}
    for table in tables:
        for (row, seed), record in frames.records(study, table).items():
            row = next(of for of in table.rows if of.name == row)
            for block, value in (record.get("attention") or [{}])[-1].get("entropy", {}).items():
                entropies[block[0]][run_name(row, study.preset), seed, block] = value
    found = {name: of for name, of in entropies.items() if of}
    return [_of_network(name, of, bound, explained=name != min(found)) for name, of in found.items()]


def _of_network(
    name: str, of_blocks: dict[tuple[str, int, str], float], bound: float, explained: bool = False
) -> str:
    values, count = list(of_blocks.values()), len({(row, seed) for row, seed, _ in of_blocks})
    flat = sum(value >= bound for value in values)
    digits = 2 if 0.9995 <= max(values) < 1 else 1  # 99.98 is not 100
    low, high = (f"{100 * value:.{digits}f}" for value in (min(values), max(values)))
    between = f"{low} to {high}" if low != high else low
    measured = f"{between} per cent"
    if not explained:
        of = f"each of {count} runs" if count > 1 else "one run"
        measured = f"the entropy of its map is {measured} of that of equal weights (last score of {of})"
    if flat == len(values):
        return f"**{name}'s attention is close to uniform**: {measured}."
    if flat:
        return f"**{name}'s attention is close to uniform in {flat} of {len(values)} blocks**: {measured}."
    return f"**{name}'s attention is not uniform**: {measured}."


def stability(study: Study, tables: Iterable[paper.Table]) -> list[str]:
    """Whether SN on D alone collapses, and where it stands among the rows with one D update a step."""
    found = frames.records(study, paper.FIGURE3)
    own = [record for (name, _), record in found.items() if name == "sn_d"]
    if not own:
        return []
    broken = sum(map(runs.unstable, own))
    low, high = share(broken, len(own))
    text = (
        f"**SN on D alone {'broke down' if broken else 'did not collapse'}**: {broken} of {len(own)} runs"
        f" broke down (95 % interval of the share: {low:.0%} to {high:.0%})."
    )
    one_to_one = [row for row in standings(study, tables) if row.d_steps == 1]
    fids = {row.label: row.fid(row.last_step) for row in one_to_one}
    label = next(row.label for row in paper.FIGURE3.rows if row.name == "sn_d")
    if label in fids and len(fids) > 1 and not too_short(study, one_to_one):
        place = sorted(fids, key=fids.get).index(label) + 1
        text += (
            f" By mean {labels.heading('fid', study.preset)} it is number {place} of the {len(fids)} rows"
            f" that update D once for each update of G: {_listed(fids)}. {_chance(one_to_one)}"
        )
    return [text]


def collapses(study: Study, table: paper.Table) -> list[str]:
    """How many runs of each row broke down."""
    counts = {}
    for (name, _), record in frames.records(study, table).items():
        counts.setdefault(name, []).append(runs.unstable(record))
    labels = {row.name: row.label for row in table.rows}
    if not counts:
        return []
    if not any(map(any, counts.values())):
        return [f"**No run breaks down**: 0 of {sum(map(len, counts.values()))}."]
    each = joined([f"{sum(of)} of {len(of)} of {labels[name]}" for name, of in counts.items()])
    return [f"**Runs that break down**: {each}."]


def judged(study: Study, *names: str) -> list[str]:
    """A sentence or two on each of the named claims that this study tries; on all of them, without names."""
    table = verdicts(study, *names)
    if (table["verdict"] == NO_PLAN).all():
        return ["**No claim is judged**: nothing was declared before the runs of this study."]
    return [
        f"**{line.claim}, {line.verdict}.** *{line.statement}* {line.finding}"
        for line in table[table["verdict"] != NOT_TRIED].itertuples()
    ]


def nearest(study: Study) -> list[str]:
    """Whether SAGAN's samples lie nearer to training images than other training images do."""
    found = [r["neighbours"] for r in frames.records(study, paper.TABLE2).values() if r.get("neighbours")]
    found = [n for n in found if "real" in n]
    if not found:
        return []
    ours, real = (float(np.mean([n[of] for n in found])) for of in ("samples", "real"))
    compared = f"{ours:.1f}, that of training images which were not searched is {real:.1f}"
    return [
        f"**{'No sign' if ours >= real / 2 else 'A sign'} of copied training images.** The median distance of"
        f" a sample to its nearest training image is {compared} (in feature space, means over the runs of"
        " Table 2). Copies would lie near 0."
    ]


_TABLES = tuple(paper.TABLES.values())
PARTS: dict[str, Callable[[Study], list[str]]] = {  # what the notebooks tell, by name
    "table1": lambda s: [
        *judged(s, "C3", "C4", "C5"),
        *order(s, [paper.TABLE1]),
        *uniform(s, [paper.TABLE1]),
    ],
    "table2": lambda s: [*judged(s, "C6"), *order(s, [paper.TABLE2]), *equal_cost(s, [paper.TABLE2])],
    "figure3": lambda s: [*judged(s, "C1", "C2"), *stability(s, _TABLES)],
    "stress": lambda s: [*judged(s, "C1", "C2"), *collapses(s, paper.STRESS)],
    "figure5": lambda s: [*judged(s, "C7"), *uniform(s, [paper.TABLE1, paper.TABLE2])],
    "figure6": nearest,
    "streams": spreads_in_words,
    "recipes": lambda s: [effects_in_words(s, paper.RECIPE_TABLE)],
    "report": lambda s: [
        *judged(s),
        *order(s, _TABLES),
        *equal_cost(s, [paper.TABLE2]),
        *stability(s, _TABLES),
        *uniform(s, _TABLES),
        *spreads_in_words(s),
    ],
}


def found(study: Study, notebook: str) -> list[str]:
    """What the study found on a notebook's question, most important first. Raises ReproError for a notebook
    without findings.
    """
    return PARTS[choose("findings of notebook", notebook, PARTS)](study)


def where_it_holds(study: Study, notebook: str = "", seeds: bool = True) -> str:
    """The scale that all of it is limited to, with the training seeds of the notebook's table where it has
    one, or without.
    """
    p = study.preset
    count = setting.seeds(study, notebook if notebook in paper.WITH_NOTEBOOK else "")
    of_seeds = f" and {count} training seed{'' if count == '1' else 's'} a row" if seeds else ""
    return (
        f"These figures are for {setting.data_name(study)} at {p.resolution} pixels, width"
        f" {p.channels}{' and' if not seeds else ','} {p.steps:,} updates of batch {p.batch_size}{of_seeds}."
        " Other scales may differ."
    )


def in_brief(study: Study) -> str:
    """What was found, as one line of a terminal."""
    table = verdicts(study)
    if (table["verdict"] == NO_PLAN).all():
        short = too_short(study, standings(study, _TABLES))
        return "No plan was declared, so no claim is judged." + (
            " Every row's FID is at the level of noise." if short else ""
        )
    tried = table[table["verdict"] != NOT_TRIED]
    counts = [f"{n} {verdict}" for verdict, n in tried["verdict"].value_counts(sort=False).items()]
    text = f"Of {len(tried)} claims {joined(counts)}."
    main = tried[tried["claim"] == "C4"]
    return text if main.empty else f"{text} Does attention help? {main['finding'].item()}"


def next_step(study: Study) -> str:
    """The command that tells more."""
    name, plan = study.preset.name, read_plan(study)
    accepted = study.out == runs.PROJECT / "results"
    out = "" if accepted or study.out == runs.PROJECT / "outputs" else f" --out {shlex.quote(str(study.out))}"
    data = f" --data {shlex.quote(study.data)}" if study.data else ""
    reference = (
        "These runs are the reference."
        if accepted
        else f"`repro accept --preset {name}{out}` makes these runs the reference."
    )
    if plan is None:
        return (
            "`repro reproduce --preset cifar10-cpu` does the same with photographs, in hours."
            if study.preset.dataset == "symmetric_shapes"
            else reference
        )
    if any(j.waits and j.seeds < plan.most_seeds for j in judge(study)):
        first = f"With results/{name} copied into outputs/, " if accepted else ""
        data = data or " --data FOLDER" if study.preset.dataset != "symmetric_shapes" else ""
        return (
            f"{first}`repro reproduce --preset {name}{data}{out} --until-settled` trains more seeds of the"
            f" rows that are still open, at most {plan.most_seeds} seeds."
        )
    return f"The plan is through. {reference}"
