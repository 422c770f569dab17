"""Commands that score, draw and export images and networks, and measure speed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from .. import runs
from ..errors import ReproError
from .options import DataOption, OutOption, PresetOption
from .printing import print_frame, relative, say


def score(
    images: Annotated[
        str,
        typer.Option(
            help="What to score: a folder of images, an .npz of uint8 images (N, R, R, 3), or Parquet files."
        ),
    ],
    reference: Annotated[str, typer.Option(help="Real images, in any of these forms, or a hub name.")],
    extractor: Annotated[
        str,
        typer.Option(
            help="inception, dinov2, or efficientnet_lite0 or efficientnet_lite2, which need no download."
        ),
    ] = "inception",
    resolution: Annotated[
        int | None, typer.Option(min=8, help="Resize both sides to this size first.")
    ] = None,
    by_class: Annotated[
        bool, typer.Option("--by-class", help="Also the FID of each class and their mean.")
    ] = False,
    json_to: Annotated[Path | None, typer.Option("--json", help="Write the scores to this file too.")] = None,
) -> None:
    """Score any set of images against any other: FID, KID, Inception score, precision, recall."""
    import pandas as pd

    from ..data.loading import read_images
    from ..parallel import device
    from ..scoring.features import check_extractor, load_extractor
    from ..scoring.scores import score_images

    check_extractor(extractor)
    generated, real = read_images(images, resolution), read_images(reference, resolution)
    network = load_extractor(extractor).to(device())
    scores, classes = score_images(network, generated, real, by_class)
    if classes:
        scores["intra_fid"] = sum(classes.values()) / len(classes)
    definition = {
        "extractor": network.name,
        "resizer": network.resizer,
        "images": len(generated.images),
        "references": len(real.images),
        "size": generated.images.shape[1],
        "reference_size": real.images.shape[1],
        "reference_fingerprint": real.fingerprint,
    }
    title = f"{network.name}, {definition['images']:,} images against {definition['references']:,}"
    lines = [*scores.items(), *((f"FID of {name}", value) for name, value in classes.items())]
    print_frame(
        pd.DataFrame([(name, f"{value:.5g}") for name, value in lines], columns=["score", "value"]), title
    )
    if json_to:
        runs.write_atomically(
            json_to,
            (
                json.dumps({"scores": scores, "classes": classes, "definition": definition}, indent=1) + "\n"
            ).encode(),
        )


def validate(
    preset: PresetOption = "smoke",
    extractor: Annotated[
        str, typer.Option(help="inception, dinov2, efficientnet_lite0 or efficientnet_lite2.")
    ] = "efficientnet_lite0",
    data: DataOption = None,
    out: OutOption = "outputs",
) -> None:
    """Score damaged real images, whose order is known, and execute the notebook that says what the scores can
    tell.
    """
    from ..analysis import tables
    from ..checks import validation
    from ..scoring.features import check_extractor
    from ..studies.notebooks import execute_notebooks
    from ..studies.study import Study

    check_extractor(extractor)
    study = Study(preset, out=out, data=data)
    validation.stored(study)  # which the notebook sets all others beside
    print_frame(tables.rounded(validation.stored(study, extractor)), f"Damaged real images, {extractor}")
    execute_notebooks(["metrics"], study, study.folder)
    say(f"What the scores can say: {relative(study.folder / 'metrics.ipynb')}.")


def attention(
    folder: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A run's folder, such as outputs/smoke/runs/attention_16/seed0."),
    ],
) -> None:
    """Measure what a trained run's attention maps attend to, and draw them into RUN/attention.jpg."""
    import pandas as pd

    from ..networks import resnet
    from ..parallel import device
    from ..scoring import attention as maps
    from ..training import checkpoint

    config, g, d, precision = checkpoint.trained(folder)
    if not maps.blocks(g):
        raise ReproError(
            f"The networks of {folder} have no attention: name a run of a row such as attention_16."
        )
    measured, shown = maps.look(g.to(device()), d.to(device()), config, precision, device())
    run = runs.Run(folder)
    maps.write(run, shown)
    gamma = {
        f"{name} {stage}": v
        for name, network in (("G", g), ("D", d))
        for stage, v in resnet.gammas(network).items()
    }
    frame = pd.DataFrame({"gamma": gamma} | measured).map("{:.3f}".format)
    print_frame(
        frame.rename_axis("").reset_index(),
        "What is attended to: distances in sides of the image, colours in grey levels",
    )
    say(f"The picture: {run.picture('attention')}")


def sample(
    source: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run's folder, or a generator that `repro export` wrote.")
    ],
    n: Annotated[int, typer.Option(min=1, help="How many images.")] = 64,
    label: Annotated[
        int | None, typer.Option("--class", min=0, help="The class of all; default: all classes in turns.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the latents.")] = 0,
    out: Annotated[Path, typer.Option(help="The sheet of images, a PNG.")] = Path("grid.png"),
) -> None:
    """Draw images of a trained generator."""
    from ..data import sheets
    from ..parallel import device
    from ..reports import export as exports
    from ..scoring import sampling

    config, g, precision = exports.generator(source)
    if label is not None and config.recipe.conditioning == "unconditional":
        raise ReproError("--class is given and this generator is unconditional: leave it out.")
    if label is not None and label >= config.num_classes:
        raise ReproError(
            f"--class is {label} and this generator knows {config.num_classes} classes: choose from 0 to"
            f" {config.num_classes - 1}."
        )
    images, _ = sampling.sample(g.to(device()), config, n, precision, device(), seed, label)
    runs.write_atomically(out, sheets.square(images))
    say(f"{n} images of {config.preset.resolution} px: {out}")


def export(
    folder: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A run's folder, such as outputs/smoke/runs/attention_16/seed0."),
    ],
    to: Annotated[
        Path | None, typer.Option(help="The .safetensors file; default: RUN/generator.safetensors.")
    ] = None,
) -> None:
    """Write the generator of a run's best scored step as safetensors, with a model card."""
    from ..reports import export as exports

    to = to or folder / "generator.safetensors"
    if to.suffix != exports.SUFFIX:
        raise ReproError(f"--to is {to}: give it a name that ends in {exports.SUFFIX}.")
    exports.export(folder, to)
    say(f"The generator: {to}. Its model card: {to.with_suffix('.md')}")


def bench(
    only: Annotated[
        str | None,
        typer.Option(
            help=(
                "Sections, joined by commas: training, attention, scoring, studies, and smoke and cluster"
                " (long)."
            )
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Turns that each side takes; medians are shown.")] = 5,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            help="A file or checkout to train against, as benchmarks/plain_loop.py; may be given again."
        ),
    ] = None,
    json_to: Annotated[
        Path,
        typer.Option(
            "--json", help="Where every number goes (relative to the project); the table goes beside it."
        ),
    ] = Path("outputs/bench.json"),
) -> None:
    """Measure the speed of this machine's training, scoring and reports against what a user could pick
    instead.
    """
    from ..checks import bench as benches

    lines = []
    for line in benches.measure(only.split(",") if only else list(benches.DEFAULT), repeats, peer or []):
        logging.getLogger(__name__).info("%s: %.3g %s", line.what, line.ours, line.unit)
        lines.append(line)
    print_frame(
        benches.table(lines),
        f"Medians of {repeats} turns, on a shared machine if this is one: trust the ratios",
    )
    benches.write(lines, repeats, runs.PROJECT / json_to)
    say(f"Every number: {relative(runs.PROJECT / json_to)}.")
