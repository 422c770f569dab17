"""Every knob of a run as frozen data: the recipe (what), the preset (how large), and their resolution into
one configuration.

A *recipe* decides how a model is built and trained apart from scale; a *preset* is the scale. A `Config`
joins the two with the feature-map sizes that get an attention or residual block, the data and the training
seed. Two equal configurations are one run.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from dataclasses import dataclass

STREAMS = (
    "weights",
    "order",
    "latents",
)  # what a training seed decides: initial weights, order (and flips) of the real images, latents and labels
LARGEST = "largest"  # stands for the largest feature-map size that both networks have


class ReproError(ValueError):
    """A mistake a person can mend: its text is one sentence that says what is wrong and what to do. The CLI
    exits with 2.
    """


class SizeNotAvailable(ReproError):
    """The feature-map size does not exist in both networks at this resolution (shown as "n/a" in tables)."""


def choose(kind: str, name: str, allowed) -> str:
    """Return `name` if it is one of `allowed`; otherwise raise a `ReproError` that lists them and names the
    nearest.
    """
    allowed = list(allowed)
    if name in allowed:
        return name
    near = difflib.get_close_matches(str(name), allowed, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ReproError(f"Unknown {kind} {name!r}: choose one of {', '.join(allowed)}.{hint}")


def _require(condition: bool, name: str, value, allowed: str) -> None:
    if not condition:
        raise ReproError(f"{name} is {value!r}: it must be {allowed}.")


def later(default):
    """A field that came after runs were recorded: it stands in a run's identity only where it is not its
    default, which must be what the runs before it did. So older runs keep their configuration.
    """
    return dataclasses.field(default=default, metadata={"later": True})


def plain(of) -> dict:
    """A configuration's dataclass as plain JSON data, without the `later` fields at their defaults."""
    values = {
        f.name: getattr(of, f.name)
        for f in dataclasses.fields(of)
        if not (f.metadata.get("later") and getattr(of, f.name) == f.default)
    }
    return {
        name: plain(v) if dataclasses.is_dataclass(v) else list(v) if isinstance(v, tuple) else v
        for name, v in values.items()
    }


@dataclass(frozen=True)
class Recipe:
    """How a model is built and trained, apart from scale. The defaults are the authors' released TensorFlow
    code.

    Each field is one line of the ledger of differences between the paper's text and the codebases (README,
    "Recipes").
    """

    name: str = "released_code"
    # attention block (paper, section 3; released code: values C/2, keys and values max-pooled 2x2, no biases,
    # no scale)
    key_divisor: int = 8  # query and key channels are C / key_divisor,
    key_channels_min: int = later(1)  # and at least so many
    value_divisor: int = 2  # value channels are C / value_divisor; a 1x1 convolution maps them back to C
    attention_pool: bool = True  # 2x2 max-pooling of keys and values
    attention_bias: bool = False
    attention_scale: bool = False  # multiply the logits by 1/sqrt(key channels)
    attention_output: bool = later(
        True
    )  # the 1x1 convolution after the attended values; without it they have C channels
    attention_sn: bool = later(True)  # spectral norm in the block, where its network has it
    # spectral norm
    sn_generator: bool = True
    sn_discriminator: bool = True
    sn_cbn: bool = False  # also on the tables of the conditional batch norms
    sn_eps: float = 1e-12
    sn_iterations: int = 1  # power iterations an update: of G at each training pass, of D at each of d_passes
    sn_through_iteration: bool = (
        True  # sigma's gradient flows through the power iteration; else its vectors are constants
    )
    # batch norm; PyTorch's momentum is 1 - TensorFlow's decay
    bn_momentum: float = 0.001
    last_bn_momentum: float = 0.0001
    bn_eps: float = 1e-5
    bn_batch: int | None = later(
        64
        # images normalised together, on one device or several: 64 on each in the released code; None: all of
        # the batch
    )
    init: str = "xavier_uniform"
    cbn_init: str = later(
        "constant"
    )  # gains of 1 and biases of 0; or "init": tables start as `init` says, a gain is 1 plus its entry
    # loss and optimisation
    loss: str = "hinge"
    conditioning: str = "projection"
    auxiliary_weight_d: float = (
        1.0  # weight of the classification loss, used with conditioning "auxiliary_classifier" only
    )
    auxiliary_weight_g: float = 0.1  # as in the WGAN-GP authors' AC-GAN code; the paper states none
    lr_g: float = 1e-4
    lr_d: float = 4e-4
    beta1: float = 0.0
    beta2: float = 0.999  # the paper says 0.9; the released code leaves TensorFlow's default
    adam_eps: float = 1e-8
    d_steps: int = 1  # D updates for each G update
    d_passes: int = later(
        1
        # passes of D in its update: 1, real and generated images together; 2, real ones and then generated
        # ones
    )
    ema_decay: float | None = None  # of G's parameters, used for sampling; None: no average
    ema_start: int = 0  # G updates before averaging starts
    # average buffers too: batch norm's averages, and power-iteration vectors, from which evaluation iterates
    # once more
    ema_buffers: bool = later(False)
    flip: bool = False  # random horizontal flips of the real images
    network: str = later(
        "resnet"
    )  # or "dcgan": the second codebase's pair, with attention in places of its own (repro/networks/dcgan.py)
    gp_weight: float = later(10.0)  # weight of the gradient penalty, used with loss "wgan_gp" only
    gp_own_step: bool = later(
        False
    )  # the penalty in an optimiser step of its own, not in the loss of the D update
    bn_momentum_fixed: bool = later(False)  # a preset's bn_momentum does not replace this recipe's
    sn_d_in_g_step: bool = later(
        False
    )  # D's power iteration runs in G's updates too, as PyTorch's spectral norm does

    def __post_init__(self):
        for name in ("key_divisor", "key_channels_min", "value_divisor", "sn_iterations", "d_steps"):
            value = getattr(self, name)
            _require(
                isinstance(value, int) and value >= 1, f"recipe.{name}", value, "a whole number of at least 1"
            )
        for name in ("sn_eps", "bn_eps", "adam_eps", "lr_g", "lr_d", "gp_weight"):
            _require(getattr(self, name) > 0, f"recipe.{name}", getattr(self, name), "positive")
        for name in ("beta1", "beta2"):
            _require(0 <= getattr(self, name) < 1, f"recipe.{name}", getattr(self, name), "in [0, 1)")
        for name in ("bn_momentum", "last_bn_momentum"):
            _require(0 < getattr(self, name) <= 1, f"recipe.{name}", getattr(self, name), "in (0, 1]")
        _require(
            self.bn_batch is None or (isinstance(self.bn_batch, int) and self.bn_batch >= 2),
            "recipe.bn_batch",
            self.bn_batch,
            "None or a whole number of at least 2",
        )
        _require(
            self.ema_decay is None or 0 < self.ema_decay < 1,
            "recipe.ema_decay",
            self.ema_decay,
            "None or in (0, 1)",
        )
        _require(self.d_passes in (1, 2), "recipe.d_passes", self.d_passes, "1 or 2")
        choose("recipe.init", self.init, ("xavier_uniform", "orthogonal", "framework_default"))
        choose("recipe.cbn_init", self.cbn_init, ("constant", "init"))
        choose("recipe.loss", self.loss, ("hinge", "wgan_gp"))
        choose(
            "recipe.conditioning", self.conditioning, ("projection", "auxiliary_classifier", "unconditional")
        )
        choose("recipe.network", self.network, ("resnet", "dcgan"))
        unconditional = self.conditioning == "unconditional"
        _require(
            unconditional == (self.network == "dcgan"),
            "recipe.conditioning",
            self.conditioning,
            "unconditional with network dcgan, and only there",
        )
        _require(
            self.attention_output or self.value_divisor == 1,
            "recipe.value_divisor",
            self.value_divisor,
            "1 without attention_output",
        )


# BigGAN-PyTorch's SAGAN script and mmgeneration's after it. Batch norm has PyTorch's own momentum and is not
# synchronised: 32 images a GPU (128 on four, 256 on eight). D iterates at every training pass.
_BIGGAN = dict(
    sn_eps=1e-8,
    sn_through_iteration=False,
    sn_d_in_g_step=True,
    bn_momentum=0.1,
    last_bn_momentum=0.1,
    bn_batch=32,
    cbn_init="init",
    ema_start=2000,
)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(),
        # where the paper's text says otherwise: values C/8, no pooling, Adam beta2 0.9
        Recipe(name="paper_text", value_divisor=8, attention_pool=False, beta2=0.9),
        # an update is two accumulated passes with a power iteration each: here one pass with two
        Recipe(name="biggan_pytorch", ema_decay=0.9999, ema_buffers=True, sn_iterations=2, **_BIGGAN),
        Recipe(
            name="studiogan",
            sn_eps=1e-6,
            sn_through_iteration=False,
            sn_cbn=True,
            cbn_init="init",
            d_passes=2,
            sn_d_in_g_step=True,
            bn_momentum=0.1,
            last_bn_momentum=0.1,
            bn_eps=1e-4,
            adam_eps=1e-6,
            init="orthogonal",
            flip=True,
        ),
        # mmgeneration's "BigGAN schedule", far ahead of the same repository's StudioGAN-style recipe
        Recipe(name="mmgeneration_biggan", ema_decay=0.999, d_passes=2, **_BIGGAN),
        # the second codebase (heykeetae/Self-Attention-GAN) as its defaults have it: WGAN-GP, the penalty in
        # a step of its own
        Recipe(
            name="heykeetae",
            network="dcgan",
            conditioning="unconditional",
            loss="wgan_gp",
            gp_own_step=True,
            d_passes=2,
            value_divisor=1,
            attention_pool=False,
            attention_bias=True,
            attention_output=False,
            attention_sn=False,
            sn_through_iteration=False,
            sn_d_in_g_step=True,
            bn_momentum=0.1,
            last_bn_momentum=0.1,
            beta2=0.9,
            init="framework_default",
        ),
    )
}


@dataclass(frozen=True)
class Preset:
    """The scale of a study: data, size, budget, scoring and arithmetic."""

    name: str
    dataset: str  # a name in data.DATASETS
    resolution: int  # pixels
    channels: int  # base width ch: G ends and D starts with this many channels
    batch_size: int
    steps: int  # G updates
    score_every: int  # steps between scores; the last step is always scored
    samples: int  # generated images scored each time
    references: (
        int  # real training images behind the reference statistics (the first ones of a seeded shuffle)
    )
    extractor: str  # a name in features.EXTRACTORS
    log_every: int = 25
    seeds: int = 1  # training seeds run by default
    z_dim: int = 128
    sampling_seed: int = 2018  # of the scored samples; apart from the training seeds
    precision: str = (
        "bf16"  # autocast dtype where the processor computes in it natively, else fp32 (recorded)
    )
    threads: int = 1  # per run, so that numbers do not depend on how many cores a machine has
    learning_rate_scale: float = (
        1.0  # multiplies both of the recipe's learning rates: short budgets need larger steps
    )
    bn_momentum: float | None = (
        None  # replaces both of the recipe's: a decay of 0.999 never settles in a short run
    )
    tables: tuple[str, ...] = ("table1", "table2", "figure3")  # what a study trains when no tables are named,
    rows: tuple[str, ...] = ()  # and of them these rows alone, where there are any
    resamples: int = later(
        0
    )  # further sampling seeds with which the last step is scored: how much of a spread is sampling's
    average_scale: float = later(
        1.0
    )  # multiplies the recipe's average of weights: its length, 1 / (1 - decay) updates, and its start

    def __post_init__(self):
        possible = (32, 64, 128)
        _require(
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
            _require(
                isinstance(value, int) and value >= 1, f"preset.{name}", value, "a whole number of at least 1"
            )
        _require(
            self.channels % 8 == 0,
            "preset.channels",
            self.channels,
            "a multiple of 8 (keys have C/8 channels)",
        )
        for name in ("learning_rate_scale", "average_scale"):
            _require(getattr(self, name) > 0, f"preset.{name}", getattr(self, name), "positive")
        choose("preset.precision", self.precision, ("bf16", "fp32"))


def feature_map_sizes(resolution: int) -> tuple[int, ...]:
    """Sizes of the feature maps that exist in both networks, e.g. (8, 16, 32, 64) at 128 px.

    G's up-blocks end at 8 .. resolution, D's down-blocks at resolution/2 .. 4.
    """
    sizes, size = [], 8
    while size <= resolution // 2:
        sizes.append(size)
        size *= 2
    return tuple(sizes)


@dataclass(frozen=True)
class Config:
    """The resolved configuration of one run. `key` identifies it; names do not enter, so equal rows of two
    tables train once.
    """

    recipe: Recipe
    preset: Preset
    attention_at: tuple[int, ...] = ()  # feature-map sizes with a SelfAttention block, in G and in D
    residual_at: tuple[int, ...] = ()  # feature-map sizes with a ResidualControl block, in G and in D
    seed: int = 0  # the training seed
    pinned: tuple[str, ...] = later(
        ()
    )  # of STREAMS: those that keep the numbers of seed 0, whatever the seed
    num_classes: int | None = None  # from the data; None until they are known
    data_fingerprint: str | None = None  # SHA-256 of the training array; None until it is known

    def __post_init__(self):
        sizes = feature_map_sizes(self.preset.resolution)
        for name in ("attention_at", "residual_at"):
            chosen = tuple(max(sizes) if s == LARGEST else s for s in getattr(self, name))
            object.__setattr__(self, name, chosen)
            for size in chosen:
                if size not in sizes:
                    raise SizeNotAvailable(
                        f"{name} names the feature-map size {size}, which G and D do not both have at"
                        f" {self.preset.resolution} px: choose from {', '.join(map(str, sizes))}."
                    )
        both = set(self.attention_at) & set(self.residual_at)
        if self.recipe.network == "dcgan":
            _require(
                not self.attention_at + self.residual_at,
                "attention_at",
                self.attention_at,
                "empty with network dcgan, whose blocks have places of their own",
            )
        _require(
            not both, "residual_at", self.residual_at, "apart from attention_at: one block a feature-map size"
        )
        for name in self.pinned:
            choose("stream of the training seed", name, STREAMS)
        _require(
            isinstance(self.seed, int) and self.seed >= 0, "seed", self.seed, "a whole number of at least 0"
        )

    def seed_of(self, stream: str) -> int:
        """The seed of one of STREAMS."""
        return 0 if stream in self.pinned else self.seed

    @property
    def lr_g(self) -> float:
        """G's learning rate: the recipe's, times the preset's scale."""
        return self.recipe.lr_g * self.preset.learning_rate_scale

    @property
    def lr_d(self) -> float:
        """D's learning rate: the recipe's, times the preset's scale."""
        return self.recipe.lr_d * self.preset.learning_rate_scale

    @property
    def ema_decay(self) -> float | None:
        """Of G's weights, None for no average."""
        return self.recipe.ema_decay and self.recipe.ema_decay ** (1 / self.preset.average_scale)

    @property
    def shadow_decay(self) -> float:
        """Of the average of G's weights that every run keeps beside its training: BigGAN's, as long as the
        preset's budget allows.
        """
        return 0.9999 ** (1 / self.preset.average_scale)

    @property
    def ema_start(self) -> int:
        """G updates before averaging starts."""
        return round(self.recipe.ema_start * self.preset.average_scale)

    @property
    def identity(self) -> dict:
        """What decides the run's numbers, as plain JSON data: everything but names and which tables, rows and
        seeds a study takes.
        """
        data = plain(self)
        del data["recipe"]["name"]
        for name in ("name", "seeds", "tables", "rows"):
            del data["preset"][name]
        return data

    @classmethod
    def of(cls, identity: dict) -> Config:
        """The configuration of an `identity`, without the names that it does not hold."""
        parts = {
            "recipe": Recipe(**identity["recipe"] | {"name": ""}),
            "preset": Preset(**identity["preset"] | {"name": ""}),
        }
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in identity.items()} | parts)

    @property
    def key(self) -> str:
        """The first 16 hex digits of the SHA-256 of `identity`."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:16]

    def resolved_recipe(self) -> Recipe:
        """The recipe with the preset's batch-norm momentum put in, as the networks are built."""
        if self.preset.bn_momentum is None or self.recipe.bn_momentum_fixed:
            return self.recipe
        return dataclasses.replace(
            self.recipe, bn_momentum=self.preset.bn_momentum, last_bn_momentum=self.preset.bn_momentum
        )


def difference(stored: dict, wanted: dict, prefix: str = "") -> list[str]:
    """Name the fields in which two `Config.identity` dictionaries differ, each with both values."""
    out = []
    for name in sorted(stored.keys() | wanted.keys()):
        a, b = stored.get(name), wanted.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            out += difference(a, b, f"{prefix}{name}.")
        elif a != b:
            out.append(f"{prefix}{name} was {a!r} and is now {b!r}")
    return out


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
            steps=750,
            score_every=250,
            samples=500,
            references=2000,
            extractor="efficientnet_lite0",
            log_every=25,
            learning_rate_scale=4.0,
            bn_momentum=0.1,
            average_scale=0.01,
        ),
        Preset(
            name="cifar10-cpu",
            dataset="cifar10",
            resolution=32,
            channels=16,
            batch_size=64,
            steps=3000,
            score_every=250,
            samples=5000,
            references=10000,
            extractor="efficientnet_lite0",
            log_every=50,
            seeds=3,
            learning_rate_scale=2.0,
            bn_momentum=0.1,
            average_scale=0.01,
            resamples=3,
        ),
        # four times that budget: do differences grow, shrink or turn?
        Preset(
            name="cifar10-cpu-long",
            dataset="cifar10",
            resolution=32,
            channels=16,
            batch_size=64,
            steps=12_000,
            score_every=500,
            samples=5000,
            references=10000,
            extractor="efficientnet_lite0",
            log_every=100,
            seeds=3,
            learning_rate_scale=2.0,
            bn_momentum=0.1,
            average_scale=0.01,
            resamples=3,
            tables=("table1",),
            rows=("none", "attention_16", "residual_16"),
        ),
        # at the ordinary budget nothing collapses or declines: Figure 3's rows at learning rates that strain
        # them, each row with its own
        Preset(
            name="cifar10-stress",
            dataset="cifar10",
            resolution=32,
            channels=16,
            batch_size=64,
            steps=1000,
            score_every=100,
            samples=5000,
            references=10000,
            extractor="efficientnet_lite0",
            log_every=50,
            seeds=5,
            bn_momentum=0.1,
            average_scale=0.01,
            tables=("stress",),
        ),
        # a third of that budget, for the many rows of the recipes table
        Preset(
            name="cifar10-recipes",
            dataset="cifar10",
            resolution=32,
            channels=16,
            batch_size=64,
            steps=1000,
            score_every=250,
            samples=5000,
            references=10000,
            extractor="efficientnet_lite0",
            log_every=50,
            seeds=3,
            learning_rate_scale=2.0,
            bn_momentum=0.1,
            average_scale=0.01,
            tables=("recipes",),
        ),
        # 64 px, where attention at 32 exists: five classes of structure and five of texture
        Preset(
            name="structure-texture-cpu",
            dataset="structure-texture-64",
            resolution=64,
            channels=16,
            batch_size=32,
            steps=4000,
            score_every=250,
            samples=5000,
            references=5000,
            extractor="efficientnet_lite0",
            log_every=50,
            seeds=3,
            learning_rate_scale=2.0,
            bn_momentum=0.1,
            average_scale=0.01,
            resamples=3,
            tables=("table1",),
            rows=("none", "attention_8", "attention_16", "attention_32", "residual_16", "residual_32"),
        ),
        # 100k G steps of batch 64, as the CIFAR-10 runs of the literature (PAPER.md, section 3)
        Preset(
            name="cifar10",
            dataset="cifar10",
            resolution=32,
            channels=64,
            batch_size=64,
            steps=100_000,
            score_every=5_000,
            samples=50_000,
            references=50_000,
            extractor="inception",
            log_every=100,
            seeds=5,
        ),
        Preset(
            name="tiny-imagenet",
            dataset="tiny-imagenet",
            resolution=64,
            channels=64,
            batch_size=256,
            steps=100_000,
            score_every=5_000,
            samples=50_000,
            references=50_000,
            extractor="inception",
            log_every=100,
            seeds=3,
        ),
        # the second codebase's: unlabelled, so for the row recipe_heykeetae alone
        *(
            Preset(
                name=dataset,
                dataset=dataset,
                resolution=64,
                channels=64,
                batch_size=64,
                steps=1_000_000,
                score_every=50_000,
                samples=50_000,
                references=50_000,
                extractor="inception",
                log_every=100,
            )
            for dataset in ("celeba", "lsun-church")
        ),
        # the paper's: 128 px, one million steps, global batch 4 x 64
        Preset(
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
        ),
    )
}


def get_preset(name: str) -> Preset:
    """The preset of this name. Raises ReproError for a name that is not one."""
    return PRESETS[choose("preset", name, PRESETS)]
