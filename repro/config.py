"""The configuration of one run: a recipe (what), a preset (how large), the feature-map sizes that get an
attention or residual block, the data and the training seed. Two equal configurations are one run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass

from .errors import SizeNotAvailable, choose, later, require
from .presets import Preset
from .recipes import Recipe

STREAMS = (
    "weights",
    "order",
    "latents",
)  # what a training seed decides: initial weights, order (and flips) of the real images, latents and labels
LARGEST = "largest"  # stands for the largest feature-map size that both networks have


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
    # of STREAMS: those that keep the numbers of seed 0, whatever the seed
    pinned: tuple[str, ...] = later(())
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
            require(
                not self.attention_at + self.residual_at,
                "attention_at",
                self.attention_at,
                "empty with network dcgan, whose blocks have places of their own",
            )
        require(
            not both, "residual_at", self.residual_at, "apart from attention_at: one block a feature-map size"
        )
        for name in self.pinned:
            choose("stream of the training seed", name, STREAMS)
        require(
            isinstance(self.seed, int) and self.seed >= 0, "seed", self.seed, "a whole number of at least 0"
        )

    def seed_of(self, stream: str) -> int:
        """The seed of one of STREAMS."""
        return self.preset.seed_offset + (0 if stream in self.pinned else self.seed)

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
