"""Presets: the scale of a study, from a rehearsal of four steps to the paper's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .errors import choose, later, require

# names of test splits, the first that is there: ImageNet's own "test" has no labels
TEST_SPLITS = ("validation", "valid", "val", "test")


@dataclass(frozen=True)
class Preset:
    """The scale of a study: data, size, budget, scoring and arithmetic."""

    name: str
    dataset: str  # a name in loading.DATASETS
    resolution: int  # pixels
    channels: int  # base width ch: G ends and D starts with this many channels
    batch_size: int
    steps: int  # G updates
    score_every: int  # steps between scores; the last step is always scored
    samples: int  # generated images scored each time
    # real training images behind the reference statistics (the first ones of a seeded shuffle)
    references: int
    extractor: str  # a name in features.EXTRACTORS that knows classes, as IS needs them
    log_every: int = 25
    seeds: int = 1  # training seeds run by default
    z_dim: int = 128
    sampling_seed: int = 2018  # of the scored samples; apart from the training seeds
    # autocast dtype where the processor computes in it natively, else fp32 (recorded)
    precision: str = "bf16"
    threads: int = 1  # per run, so that numbers do not depend on how many cores a machine has
    # multiplies both of the recipe's learning rates: short budgets need larger steps
    learning_rate_scale: float = 1.0
    # replaces both of the recipe's: a decay of 0.999 never settles in a short run
    bn_momentum: float | None = None
    tables: tuple[str, ...] = ("table1", "table2", "figure3")  # what a study trains when no tables are named,
    rows: tuple[str, ...] = ()  # and of them these rows alone, where there are any
    # further sampling seeds with which the last step is scored: how much of a spread is sampling's
    resamples: int = later(0)
    # multiplies the recipe's average of weights: its length, 1 / (1 - decay) updates, and its start
    average_scale: float = later(1.0)
    # added to a training seed where random streams are drawn: fresh seeds for what an earlier study suggested
    seed_offset: int = later(0)
    # steps before this one are not scored, where only a study's endpoint is wanted
    score_from: int = later(0)

    def __post_init__(self):
        possible = (32, 64, 128)
        require(
            self.resolution in possible,
            "preset.resolution",
            self.resolution,
            f"one of {', '.join(map(str, possible))}",
        )
        for name in (
            "channels",
            "batch_size",
            "steps",
            "score_every",
            "samples",
            "references",
            "log_every",
            "threads",
            "z_dim",
            "seeds",
        ):
            value = getattr(self, name)
            require(
                isinstance(value, int) and value >= 1, f"preset.{name}", value, "a whole number of at least 1"
            )
        require(
            self.channels % 8 == 0,
            "preset.channels",
            self.channels,
            "a multiple of 8 (keys have C/8 channels)",
        )
        for name in ("resamples", "seed_offset", "score_from"):
            value = getattr(self, name)
            require(
                isinstance(value, int) and value >= 0, f"preset.{name}", value, "a whole number of at least 0"
            )
        for name in ("learning_rate_scale", "average_scale"):
            require(getattr(self, name) > 0, f"preset.{name}", getattr(self, name), "positive")
        choose("preset.precision", self.precision, ("bf16", "fp32"))

    def is_scored(self, step: int) -> bool:
        """Whether a step is one to score."""
        due = step % self.score_every == 0 and step >= max(self.score_from, 1)
        return due or step == self.steps


_CIFAR10_CPU = Preset(
    name="cifar10-cpu",
    dataset="cifar10",
    resolution=32,
    channels=16,
    batch_size=64,
    steps=3000,
    score_every=250,
    samples=5000,
    references=10_000,
    extractor="efficientnet_lite0",
    log_every=50,
    seeds=3,
    learning_rate_scale=2.0,
    bn_momentum=0.1,
    average_scale=0.01,
    resamples=3,
)
_STRUCTURE_TEXTURE_CPU = replace(
    _CIFAR10_CPU,
    name="structure-texture-cpu",
    dataset="structure-texture-64",
    resolution=64,
    batch_size=32,
    steps=4000,
    references=5000,
    tables=("table1",),
    rows=("none", "attention_8", "attention_16", "attention_32", "residual_16", "residual_32"),
)
# the paper's: 128 px, one million steps, global batch 4 x 64
_IMAGENET = Preset(
    name="imagenet",
    dataset="imagenet",
    resolution=128,
    channels=64,
    batch_size=256,
    steps=1_000_000,
    score_every=10_000,
    samples=50_000,
    references=50_000,
    extractor="inception",
    log_every=100,
    seeds=3,
)
PRESETS = {
    p.name: p
    for p in (
        # a few steps of everything, to see that a machine can run the study and that the code computes what
        # it did: its scores mean nothing; in fp32, which machines agree on to the last digits while so few
        # steps are taken
        Preset(
            name="rehearsal",
            dataset="symmetric_shapes",
            resolution=32,
            channels=8,
            batch_size=8,
            steps=4,
            score_every=2,
            samples=100,
            references=200,
            extractor="efficientnet_lite0",
            log_every=1,
            precision="fp32",
            learning_rate_scale=4.0,
            bn_momentum=0.1,
        ),
        Preset(
            name="smoke",
            dataset="symmetric_shapes",
            resolution=32,
            channels=16,
            batch_size=16,
            steps=200,
            score_every=100,
            samples=500,
            references=2000,
            extractor="efficientnet_lite0",
            log_every=25,
            learning_rate_scale=4.0,
            bn_momentum=0.1,
            average_scale=0.01,
        ),
        _CIFAR10_CPU,
        # its question about attention again, over pairs of runs of equal seed, on seeds that nobody has seen
        replace(
            _CIFAR10_CPU,
            name="cifar10-cpu-paired",
            tables=("table1",),
            rows=("none", "attention_8", "attention_16"),
            seeds=6,
            resamples=0,
            seed_offset=10,
            score_from=2500,
        ),
        # four times that budget: do differences grow, shrink or turn?
        replace(
            _CIFAR10_CPU,
            name="cifar10-cpu-long",
            steps=12_000,
            score_every=500,
            log_every=100,
            tables=("table1",),
            rows=("none", "attention_16", "residual_16"),
        ),
        # at the ordinary budget nothing collapses or declines: Figure 3's rows at learning rates that strain
        # them, each row with its own
        replace(
            _CIFAR10_CPU,
            name="cifar10-stress",
            steps=1000,
            score_every=100,
            seeds=5,
            learning_rate_scale=1.0,
            resamples=0,
            tables=("stress",),
        ),
        # a third of that budget, for the many rows of the recipes table
        replace(_CIFAR10_CPU, name="cifar10-recipes", steps=1000, resamples=0, tables=("recipes",)),
        # 64 px, where attention at 32 exists: five classes of structure and five of texture
        _STRUCTURE_TEXTURE_CPU,
        # what a GPU lent for minutes has time for: the paper's width, several runs at once
        replace(
            _CIFAR10_CPU,
            name="cifar10-gpu",
            channels=64,
            score_every=500,
            seeds=4,
            tables=("table1",),
            rows=("none", "attention_16", "residual_16"),
        ),
        # the 64 px study on a GPU lent for minutes, at half the paper's width
        replace(
            _STRUCTURE_TEXTURE_CPU, name="structure-texture-gpu", channels=32, steps=2000, score_every=500
        ),
        # 100k G steps of batch 64, as mmgeneration's runs on CIFAR-10
        replace(
            _IMAGENET,
            name="cifar10",
            dataset="cifar10",
            resolution=32,
            batch_size=64,
            steps=100_000,
            score_every=5000,
            seeds=5,
        ),
        replace(
            _IMAGENET,
            name="tiny-imagenet",
            dataset="tiny-imagenet",
            resolution=64,
            steps=100_000,
            score_every=5000,
        ),
        # the second codebase's: unlabelled, so for the row recipe_heykeetae alone
        *(
            replace(
                _IMAGENET,
                name=dataset,
                dataset=dataset,
                resolution=64,
                batch_size=64,
                score_every=50_000,
                seeds=1,
            )
            for dataset in ("celeba", "lsun-church")
        ),
        _IMAGENET,
    )
}


def get_preset(name: str) -> Preset:
    """The preset of this name. Raises ReproError for a name that is not one."""
    return PRESETS[choose("preset", name, PRESETS)]
