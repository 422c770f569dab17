"""Properties of configurations: every valid one builds, every invalid one is refused by the name of the
field.
"""

import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repro import paper, runs
from repro.config import Config, difference, feature_map_sizes
from repro.data.images import Batches
from repro.errors import ReproError, choose
from repro.networks import resnet, spectral_norm
from repro.presets import PRESETS, Preset
from repro.recipes import RECIPES, Recipe
from repro.reports import readme
from repro.studies import study
from repro.training import draws, updates

recipes = st.builds(
    Recipe,
    key_divisor=st.sampled_from([1, 4, 8]),
    value_divisor=st.sampled_from([1, 2, 8]),
    attention_pool=st.booleans(),
    attention_bias=st.booleans(),
    attention_scale=st.booleans(),
    sn_generator=st.booleans(),
    sn_discriminator=st.booleans(),
    sn_cbn=st.booleans(),
    sn_iterations=st.integers(1, 3),
    bn_momentum=st.floats(0.001, 1),
    d_steps=st.integers(1, 5),
    init=st.sampled_from(["xavier_uniform", "orthogonal", "framework_default"]),
    attention_sn=st.booleans(),
    conditioning=st.sampled_from(["projection", "auxiliary_classifier"]),
    ema_decay=st.none() | st.floats(0.1, 0.999),
    flip=st.booleans(),
    sn_d_in_g_step=st.booleans(),
    key_channels_min=st.sampled_from([1, 16]),
    cbn_init=st.sampled_from(["constant", "init"]),
    ema_buffers=st.booleans(),
)


@st.composite
def configs(draw):
    resolution = draw(st.sampled_from([32, 64, 128]))
    preset = dataclasses.replace(
        PRESETS["rehearsal"], resolution=resolution, channels=draw(st.sampled_from([8, 16]))
    )
    places = draw(st.dictionaries(st.sampled_from(feature_map_sizes(resolution)), st.booleans()))
    return Config(
        draw(recipes),
        preset,
        attention_at=tuple(s for s, attends in places.items() if attends),
        residual_at=tuple(s for s, attends in places.items() if not attends),
        seed=draw(st.integers(0, 1000)),
        num_classes=draw(st.integers(2, 20)),
    )


@settings(max_examples=15, deadline=None)
@given(configs())
def test_every_valid_configuration_builds_and_runs(config):
    g, d = resnet.build(config)
    labels = torch.arange(2) % config.num_classes
    images = g(torch.randn(2, config.preset.z_dim), labels)
    logits, classes = d(images, labels)
    assert images.shape == (2, 3, config.preset.resolution, config.preset.resolution)
    assert torch.isfinite(logits).all() and (classes is None) == (config.recipe.conditioning == "projection")
    assert set(resnet.gammas(g)) == {
        resnet.stage_name(s) for s in (*config.attention_at, *config.residual_at)
    }


@pytest.mark.parametrize(
    "field, values",
    {
        "key_divisor": (0, -1, 1.5),
        "sn_iterations": (0,),
        "d_steps": (0,),
        "lr_g": (0, -1e-4),
        "lr_d": (0,),
        "beta1": (1.0, -0.1),
        "beta2": (1.0,),
        "bn_momentum": (0, 1.5),
        "sn_eps": (0,),
        "ema_decay": (0, 1.0),
        "init": ("he",),
        "loss": ("hing",),
        "conditioning": ("none", "unconditional"),
        "network": ("gan",),
        "gp_weight": (0,),
        "d_passes": (0, 3),
        "cbn_init": ("zeros",),
        "key_channels_min": (0,),
    }.items(),
)
def test_every_invalid_recipe_is_refused_by_name(field, values):
    for value in values:
        with pytest.raises(ReproError, match=f"recipe.{field}"):
            Recipe(**{field: value})


@pytest.mark.parametrize(
    "field, values",
    {
        "resolution": (16, 33, 256),
        "channels": (0, 12),
        "batch_size": (0,),
        "steps": (0, 1.5),
        "samples": (0,),
        "threads": (0,),
        "learning_rate_scale": (0,),
        "average_scale": (0,),
        "precision": ("fp16",),
    }.items(),
)
def test_every_invalid_preset_is_refused_by_name(field, values):
    for value in values:
        with pytest.raises(ReproError, match=f"preset.{field}"):
            dataclasses.replace(PRESETS["smoke"], **{field: value})


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"seed": -1}, "seed"),
        ({"attention_at": (7,)}, "attention_at.*8, 16"),
        ({"residual_at": (32,)}, "residual_at"),
        ({"attention_at": (8,), "residual_at": (8,)}, "residual_at.*apart from attention_at"),
    ],
)
def test_every_invalid_configuration_is_refused_by_name(changes, named):
    with pytest.raises(ReproError, match=named):
        Config(Recipe(), PRESETS["smoke"], **changes)


@given(configs(), configs())
@settings(max_examples=50, deadline=None)
def test_the_key_is_equal_exactly_when_no_field_differs(a, b):
    assert (a.key == b.key) == (difference(a.identity, b.identity) == [])
    # names do not enter
    assert a.key == dataclasses.replace(a, recipe=dataclasses.replace(a.recipe, name="other")).key


@pytest.mark.parametrize("part, cls", [("recipe", Recipe), ("preset", Preset)])
def test_each_field_but_names_and_seeds_moves_the_key(part, cls):
    base = Config(Recipe(ema_decay=0.9), PRESETS["smoke"])
    for field in dataclasses.fields(cls):
        inner, other = dataclasses.replace(getattr(base, part)), dataclasses.replace(base)
        object.__setattr__(inner, field.name, "another value")  # past the validation
        object.__setattr__(other, part, inner)
        assert (other.key == base.key) == (field.name in ("name", "seeds", "tables", "rows")), field.name


def test_every_recipe_is_what_its_column_of_the_ledger_says():
    """Against the configuration that a run would have, field by field; no field is left out and no recipe
    without a column.
    """
    ledger = paper.ledger()
    assert sorted(ledger.columns[2:]) == sorted(RECIPES)
    unlisted = {f.name for f in dataclasses.fields(Recipe)} - set(ledger["field"])
    # AC-GAN's, a row of Table 2 and no codebase's; and how a preset meets a recipe
    assert unlisted == {"name", "auxiliary_weight_d", "auxiliary_weight_g", "bn_momentum_fixed"}
    for name in RECIPES:
        resolved = study.configure(paper.NONE, PRESETS["imagenet"], recipe=name).resolved_recipe()
        wrong = [
            f"{item}: {getattr(resolved, field)} is not {cell}"
            for item, field, cell in zip(ledger["item"], ledger["field"], ledger[name], strict=True)
            if str(getattr(resolved, field)) != cell
        ]
        assert not wrong, (name, wrong)


def test_the_page_of_recipes_shows_the_ledger():
    """`repro report --from results/smoke` writes it anew."""
    assert readme.ledger_table() in (runs.PROJECT / "docs" / "recipes.md").read_text()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains(name, make_config, shapes_data):
    config = make_config("none" if name == "heykeetae" else "attention_16")
    config = dataclasses.replace(config, recipe=RECIPES[name])
    g, d = resnet.build(config)
    optimisers = updates.make_optimisers(config, g, d)
    of_d, *_, of_g = draws.draws(config, Batches(shapes_data, 8, 0, config.recipe.flip), 0)
    assert torch.isfinite(updates.update_d(config, g, d, optimisers[1], "fp32", *of_d)[0])
    norm = next(module for module in d.modules() if isinstance(module, spectral_norm.SpectralNorm))
    before = norm.u.clone()
    assert torch.isfinite(updates.update_g(config, g, d, optimisers[0], *of_g, "fp32"))
    assert torch.equal(before, norm.u) != config.recipe.sn_d_in_g_step and d.training


def test_a_later_field_enters_the_identity_only_where_it_is_not_its_default():
    """So a run recorded before the field existed is still of the same configuration."""
    base = Config(Recipe(), PRESETS["smoke"])
    assert "sn_d_in_g_step" not in base.identity["recipe"] and base.identity["recipe"]["flip"] is False
    changed = dataclasses.replace(base, recipe=dataclasses.replace(base.recipe, sn_d_in_g_step=True))
    assert changed.identity["recipe"]["sn_d_in_g_step"] is True and changed.key != base.key
    assert difference(base.identity, changed.identity) == ["recipe.sn_d_in_g_step was None and is now True"]
    assert json.loads(json.dumps(changed.identity)) == changed.identity  # plain data


def test_short_presets_shorten_the_average_of_weights():
    biggan = lambda preset: Config(RECIPES["biggan_pytorch"], PRESETS[preset])
    assert (biggan("imagenet").ema_decay, biggan("imagenet").ema_start) == (0.9999, 2000)
    assert biggan("smoke").ema_start == 20 and 1 / (1 - biggan("smoke").ema_decay) == pytest.approx(
        100, rel=0.01
    )
    assert Config(Recipe(), PRESETS["smoke"]).ema_decay is None
    assert biggan("smoke").identity["preset"]["average_scale"] == 0.01


def test_the_papers_text_as_a_recipe():
    text = RECIPES["paper_text"]
    assert (text.value_divisor, text.attention_pool, text.beta2) == (8, False, 0.9)
    assert difference(dataclasses.asdict(RECIPES["released_code"]), dataclasses.asdict(text)) == [
        "attention_pool was True and is now False",
        "beta2 was 0.999 and is now 0.9",
        "name was 'released_code' and is now 'paper_text'",
        "value_divisor was 2 and is now 8",
    ]


def test_choices_name_the_nearest():
    with pytest.raises(ReproError, match="choose one of a1, b2. Did you mean 'a1'"):
        choose("thing", "a11", ("a1", "b2"))
