"""The paper's claims, each as comparisons of rows."""

from __future__ import annotations

from dataclasses import dataclass, field

from .paper import STRESS_TIMES


@dataclass(frozen=True)
class Comparison:
    """`better` is claimed to score better than `worse`: means over the rows that exist.

    measure: "endpoint", the score at the end; "decline", how much it worsens late in training; "collapses",
    how many runs do; "classes", structured classes against textured ones.
    """

    better: tuple[str, ...]
    worse: tuple[str, ...]
    metric: str = "fid"
    measure: str = "endpoint"


@dataclass(frozen=True)
class Claim:
    """A directional statement of the paper. It is supported when each of its comparisons is."""

    name: str
    statement: str
    comparisons: tuple[Comparison, ...] = ()
    # where the claim's feature maps do not exist: the maps of the same share of the image, by
    # resolution
    analogue: dict[int, tuple[Comparison, ...]] = field(default_factory=dict)
    stress: tuple[
        Comparison, ...
    ] = ()  # between the rows of STRESS, where nothing happens at the ordinary budget
    attention: bool = False  # about what the attention maps of the row sagan attend to


SIZES = (8, 16, 32, 64)


def _attention(*sizes: int) -> tuple[str, ...]:
    return tuple(f"attention_{size}" for size in sizes)


ANALOGUE = {
    32: "the maps of 32 and 64 pixels at 128 px are those of 8 and 16 at 32 px, relative to the image"
}
STRESSED = "the same settings under stress, at learning rates 8 and 32 times as large"
INSTEAD = {
    "intra_fid": "intra_kid"
}  # where classes have fewer images than intra FID takes (500 on both sides)

# the ten classes of structure and texture at 64 px, chosen as the paper's examples for C8 are
CLASSES_OF = "structure-texture-64"
STRUCTURED = ("goldfish", "golden retriever", "Persian cat", "lion", "school bus")
TEXTURED = ("brain coral", "coral reef", "cliff", "alp", "seashore")

CLAIMS = (
    Claim(
        "C1",
        "Spectral norm in G stabilises 1:1 training that collapses without it.",
        (Comparison(("sn_g_d",), ("sn_d",), measure="collapses"),),
        stress=tuple(
            Comparison((f"sn_g_d_x{times}",), (f"sn_d_x{times}",), measure="collapses")
            for times in STRESS_TIMES
        ),
    ),
    Claim(
        "C2",
        "TTUR removes the later decline: the final quality is not significantly worse than the best so far.",
        (Comparison(("sn_g_d_ttur",), ("sn_g_d",), measure="decline"),),
        stress=tuple(
            Comparison((f"sn_g_d_ttur_x{times}",), (f"sn_g_d_x{times}",), measure="decline")
            for times in STRESS_TIMES
        ),
    ),
    Claim(
        "C3",
        "Attention at middle-to-high feature maps (32, 64) beats low ones (8, 16).",
        (Comparison(_attention(32, 64), _attention(8, 16)),),
    ),
    Claim(
        "C4",
        "Attention at 32 or 64 beats no attention.",
        (Comparison(_attention(32, 64), ("none",)),),
        analogue={32: (Comparison(_attention(8, 16), ("none",)),)},
    ),
    Claim(
        "C5",
        "A residual block of equal parameters at the same place is worse than attention.",
        tuple(Comparison((f"attention_{size}",), (f"residual_{size}",)) for size in SIZES),
    ),
    Claim(
        "C6",
        "SAGAN beats SNGAN-projection and AC-GAN on IS, FID and intra FID.",
        tuple(
            Comparison(("sagan",), (other,), metric)
            for other in ("sngan_projection", "acgan")
            for metric in ("fid", "is", "intra_fid")
        ),
    ),
    Claim(
        "C7",
        "Attention maps attend along colour and texture and to distant parts, not only to near neighbours.",
        attention=True,
    ),
    Claim(
        "C8",
        "Attention helps classes with structure (goldfish, saint bernard), not texture classes (stone wall,"
        " valley, coral fungus).",
        (Comparison(("attention_32",), ("none",), "kid", "classes"),),
    ),
)
