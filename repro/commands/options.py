"""The options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import choose
from ..presets import PRESETS

PresetOption = Annotated[str, typer.Option(help=f"The scale: {', '.join(PRESETS)}.")]
OutOption = Annotated[str, typer.Option(help="The folder of studies (relative to the project).")]
DataOption = Annotated[
    str | None,
    typer.Option(
        help="Folder of class folders or of Parquet files, or a hub name; default: the preset's own."
    ),
]
JobsOption = Annotated[int | None, typer.Option(min=1, help="Runs at once; default: as many as cores allow.")]
ExecutorOption = Annotated[str, typer.Option(help="local: this machine; ray: a Ray cluster.")]
AddressOption = Annotated[
    str | None,
    typer.Option(
        help=(
            "The Ray cluster: auto (this machine's), or host:port of its head; default: $RAY_ADDRESS, or this"
            " machine alone."
        )
    ),
]
DevicesOption = Annotated[
    int, typer.Option(min=1, help="GPUs (or processes of the CPU) that share each run, data parallel.")
]
CompileOption = Annotated[
    bool, typer.Option("--compile", help="torch.compile: minutes to start, then faster steps; for long runs.")
]
GraphsOption = Annotated[
    bool, typer.Option("--cuda-graphs", help="Each step as one CUDA graph: several times the steps on a GPU.")
]
AccumulateOption = Annotated[
    int,
    typer.Option(
        min=1, help="Parts in which a batch passes through the networks, one after the other: less memory."
    ),
]
MinutesOption = Annotated[
    float,
    typer.Option(
        min=0, help="Stop training at the next step after so many minutes, with checkpoints and exit code 75."
    ),
]


def table_names(tables: str | None, preset: str) -> list[str]:
    """The tables named in `tables`, joined by commas; without it the preset's own. Raises ReproError when
    there is no such table.
    """
    from .. import paper

    if tables is None:
        return list(PRESETS[choose("preset", preset, PRESETS)].tables)
    return [choose("table", name.strip(), paper.WITH_NOTEBOOK) for name in tables.split(",")]
