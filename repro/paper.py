"""What the paper reports and what it changes from row to row: data, nothing else. No published number stands
anywhere else.

Paper: Zhang, Goodfellow, Metaxas, Odena, "Self-Attention Generative Adversarial Networks", arXiv 1805.08318.
Published scores are for ImageNet at 128x128, one million iterations, with Inception.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .config import LARGEST, STREAMS
from .recipes import RECIPES

FACTS = Path(__file__).with_name("facts")
SETTING = "ImageNet 128, Inception"  # heads the column of published numbers

READ, SECOND_HAND, OFF_A_PLOT, UNVERIFIED = (
    "read in the source",
    "second-hand",
    "read off a plot",
    "not verified",
)


@dataclass(frozen=True)
class Published:
    """A published score with where it stands and how sure it is."""

    value: float
    source: str
    certainty: str = READ


@dataclass(frozen=True)
class Row:
    """One line of a table: its name, its published scores by metric, and what it changes in the recipe."""

    name: str
    label: str
    published: dict[str, Published] = field(default_factory=dict)
    attention_at: tuple = ()
    residual_at: tuple = ()
    changes: dict = field(default_factory=dict)  # fields of recipes.Recipe
    note: str = ""
    recipe: str = "released_code"  # what the changes are made to
    pinned: tuple[str, ...] = ()  # of config.STREAMS: those that keep the numbers of seed 0


@dataclass(frozen=True)
class Table:
    """A table or figure of the paper, with the notebook that shows it and its rows in order."""

    name: str
    title: str
    notebook: str
    rows: tuple[Row, ...]
    reference: str  # the row that differences are taken to


def _table1(label: str, fid: float, score: float, **where) -> dict:
    source = "paper, Table 1"
    return dict(
        label=label, published={"fid": Published(fid, source), "is": Published(score, source)}, **where
    )


NONE = Row("none", **_table1("no block", 22.96, 42.87))

TABLE1 = Table(
    "table1",
    "Table 1: self-attention against residual blocks, by feature-map size",
    "table1_self_attention",
    (
        NONE,
        Row("attention_8", **_table1("attention at 8", 22.98, 43.15, attention_at=(8,))),
        Row("attention_16", **_table1("attention at 16", 22.14, 45.94, attention_at=(16,))),
        Row("attention_32", **_table1("attention at 32", 18.28, 51.43, attention_at=(32,))),
        Row("attention_64", **_table1("attention at 64", 18.65, 52.52, attention_at=(64,))),
        Row("residual_8", **_table1("residual at 8", 42.13, 23.17, residual_at=(8,))),
        Row("residual_16", **_table1("residual at 16", 22.40, 44.49, residual_at=(16,))),
        Row("residual_32", **_table1("residual at 32", 27.33, 38.50, residual_at=(32,))),
        Row("residual_64", **_table1("residual at 64", 28.82, 38.96, residual_at=(64,))),
    ),
    reference="none",
)

# Miyato and Koyama train with five D updates, SN in D only and Adam at 2e-4 for both networks
_PROJECTION = dict(sn_generator=False, d_steps=5, lr_g=2e-4, lr_d=2e-4, beta2=0.9)

TABLE2 = Table(
    "table2",
    "Table 2: SAGAN against SNGAN-projection and AC-GAN",
    "table2_state_of_the_art",
    (
        Row(
            "sagan",
            "SAGAN",
            {
                "fid": Published(18.65, "paper, Table 2"),
                "is": Published(52.52, "paper, Table 2"),
                "intra_fid": Published(83.7, "paper, Table 2", SECOND_HAND),
            },
            attention_at=(LARGEST,),
            note=(
                "attention at the largest feature map that both networks have, as the paper's headline row"
                " (64 at 128 px)"
            ),
        ),
        Row(
            "sngan_projection",
            "SNGAN-projection",
            {
                "fid": Published(27.62, "paper, Table 2"),
                "is": Published(36.8, "SNGAN-projection's own README, 850k iterations"),
                "intra_fid": Published(92.4, "SNGAN-projection's own README, 850k iterations"),
            },
            changes=_PROJECTION,
            note="spectral norm in D only, five D updates a step, beta2 0.9, equal learning rates of 2e-4",
        ),
        Row(
            "acgan",
            "AC-GAN",
            {
                "is": Published(28.5, "paper, Table 2", UNVERIFIED),
                "intra_fid": Published(260.0, "paper, Table 2", UNVERIFIED),
            },
            changes=dict(_PROJECTION, conditioning="auxiliary_classifier"),
            note="as SNGAN-projection, with an auxiliary classifier instead of the projection",
        ),
    ),
    reference="sagan",
)

# The paper gives no learning rates for the two settings without TTUR. Our choice: 2e-4 for both networks, the
# geometric mean of TTUR's two, and Miyato and Koyama's.
_EQUAL_RATES = dict(lr_g=2e-4, lr_d=2e-4)

FIGURE3 = Table(
    "figure3",
    "Figure 3: what stabilises training",
    "figure3_stabilization",
    (
        Row(
            "sn_d",
            "SN on D",
            changes=dict(_EQUAL_RATES, sn_generator=False),
            note="equal learning rates of 2e-4: our choice, the paper gives none",
        ),
        Row(
            "sn_g_d",
            "SN on G and D",
            changes=_EQUAL_RATES,
            note="equal learning rates of 2e-4: our choice, the paper gives none",
        ),
        Row(
            "sn_g_d_ttur",
            "SN on G and D + TTUR",
            {
                "fid": Published(23, "paper, Figure 3 at 1M", OFF_A_PLOT),
                "is": Published(43, "paper, Figure 3 at 1M", OFF_A_PLOT),
            },
            note="the same run as Table 1's row without a block",
        ),
    ),
    reference="sn_g_d_ttur",
)

# At an ordinary budget nothing collapses or declines, so claims C1 and C2 are tried at learning rates that
# strain the three settings
STRESS_TIMES = (8, 32)
STRESS = Table(
    "stress",
    "Stress: Figure 3's settings at learning rates 8 and 32 times as large",
    "stress",
    tuple(
        Row(
            f"{row.name}_x{times}",
            f"{row.label}, rates x{times}",
            changes=row.changes | {rate: times * rates[rate] for rate in rates},
        )
        for times in STRESS_TIMES
        for row in FIGURE3.rows
        for rates in [
            {
                rate: row.changes.get(rate, getattr(RECIPES["released_code"], rate))
                for rate in ("lr_g", "lr_d")
            }
        ]
    ),
    reference=f"{FIGURE3.reference}_x{STRESS_TIMES[0]}",
)

TABLES = {table.name: table for table in (TABLE1, TABLE2, FIGURE3)}

# what the paper's rows do not use and the regression check has to watch
CHECK = Table(
    "check",
    "Rows of the regression check",
    notebook="",
    rows=(Row("weight_average", "samples from averaged weights", changes=dict(ema_decay=0.9)),),
    reference="weight_average",
)
# One paper, several recipes: SAGAN as each source sets it up, then one knob at a time. Attention is at the
# largest feature map in all of them, so that the recipes alone differ (the sources have it at 32 or 64 of 128
# px); heykeetae's pair has its own places.
_SAGAN = dict(attention_at=(LARGEST,))
_PUBLISHED_RECIPES = {
    "released_code": {"fid": Published(18.28, "paper, Table 1"), "is": Published(51.43, "paper, Table 1")},
    "studiogan": {
        "fid": Published(34.726, "StudioGAN's earlier README, best checkpoint, validation reference"),
        "is": Published(29.848, "StudioGAN's earlier README, best checkpoint"),
    },
    "mmgeneration_biggan": {
        "fid": Published(12.83, "mmgeneration, at 826k"),
        "is": Published(69.54, "mmgeneration, at 826k"),
    },
}
_KNOBS = (
    (
        "average",
        "average of G's weights",
        dict(ema_decay=0.9999, ema_start=2000),
        "BigGAN-PyTorch's decay and start; batch norm's statistics are those of G itself, as in mmgeneration",
    ),
    ("init", "orthogonal init", dict(init="orthogonal"), "as StudioGAN"),
    (
        "sn_cbn",
        "SN on the cBN tables",
        dict(sn_cbn=True),
        "as StudioGAN, with its start: gains are 1 plus the table, and tables start at random",
    ),
    ("beta2", "Adam beta2 0.9", dict(beta2=0.9), "as the paper's text"),
    ("flip", "random flips", dict(flip=True), "as StudioGAN"),
    ("no_pool", "keys and values not pooled", dict(attention_pool=False), "as the paper's text"),
    ("narrow_values", "values of C/8 channels", dict(value_divisor=8), "as the paper's text"),
    (
        "slow_bn",
        "BN momentum 0.01",
        dict(bn_momentum=0.01, last_bn_momentum=0.01, bn_momentum_fixed=True),
        "towards the released code's 0.001, which a short run never settles with",
    ),
    (
        "sn_constant",
        "power-iteration vectors as constants",
        dict(sn_through_iteration=False),
        "as the PyTorch codebases",
    ),
    (
        "wide_keys",
        "at least 16 key channels",
        dict(key_channels_min=16),
        "the paper's networks have 8 to 128 (C/8); at width 16 and 32 px, C/8 is 2 or 4 in D and 4 or 8 in G",
    ),
)
RECIPE_TABLE = Table(
    "recipes",
    "Recipes: one paper, six recipes, and one knob at a time",
    "recipes",
    (
        *(
            Row(
                f"recipe_{name}",
                name,
                _PUBLISHED_RECIPES.get(name, {}),
                recipe=name,
                **({} if recipe.network == "dcgan" else _SAGAN),
            )
            for name, recipe in RECIPES.items()
        ),
        Row(
            "recipe_heykeetae_hinge",
            "heykeetae, hinge",
            recipe="heykeetae",
            changes=dict(loss="hinge"),
            note="the codebase's other loss",
        ),
        Row(
            "recipe_none",
            "no attention",
            note="released_code without its block: what the paper's own effect is here",
        ),
        *(
            Row(f"knob_{name}", label, changes=changes, note=note, **_SAGAN)
            for name, label, changes, note in _KNOBS
        ),
    ),
    reference="recipe_released_code",
)
# what of a training seed moves a score: the row without a block, two of the seed's three streams kept
_ALONE = {"weights": "initial weights", "order": "order of the images", "latents": "latents and their labels"}
STREAM_TABLE = Table(
    "streams",
    "The lottery of a training seed: which of its parts moves the score",
    "streams",
    (
        Row("all_streams", "all three"),  # the row none
        *(
            Row(f"only_{stream}", f"{label} alone", pinned=tuple(s for s in STREAMS if s != stream))
            for stream, label in _ALONE.items()
        ),
    ),
    reference="all_streams",
)
WITH_NOTEBOOK = TABLES | {
    table.name: table for table in (RECIPE_TABLE, STRESS, STREAM_TABLE)
}  # a preset takes these when it says so, or asked for: --tables recipes
ALL_TABLES = WITH_NOTEBOOK | {CHECK.name: CHECK}


def figure3_curves():
    """The six curves of the paper's Figure 3, digitised: a frame of setting, metric, iteration_k (thousands)
    and value.

    One pixel of the published figure is about 2.5 FID (0.3 IS in its last panels): a shape to lay under ours,
    not a target.
    """
    import pandas as pd

    names = {"sn_on_d": "sn_d", "sn_on_g_and_d": "sn_g_d", "sn_on_g_and_d_ttur": "sn_g_d_ttur"}
    curves = pd.read_csv(FACTS / "figure3_digitized.csv")
    return curves.assign(setting=curves["setting"].map(names))


def ledger():
    """What each recipe sets, as its source says: a frame of item, field and a column a recipe, as text."""
    import pandas as pd

    return pd.read_csv(FACTS / "ledger.csv", dtype=str, keep_default_na=False)


def differences():
    """Where the paper's text, the released code and this study differ outside the recipes: a frame of
    text.
    """
    import pandas as pd

    return pd.read_csv(FACTS / "differences.csv", dtype=str, keep_default_na=False)
