"""The run folder: what a run was, where it stands and what it recorded. Reading it needs neither torch nor
the data.

<out>/<preset>/runs/<row>/seed<k>/run.json       configuration, provenance, history, scores, status
                                  samples.jpg    a sheet of samples, a column a class
                                  attention.jpg  what some query points attend to (runs with attention),
                                  attention.npz  and the maps it is drawn from
                                  neighbours.jpg      samples with their nearest training images
                                  interpolations.jpg  between latents and between classes
                                  shadow.jpg     as samples.jpg, of an average of G's weights beside training
                                  checkpoint.pt  everything training continues from (stays on this machine),
                                  previous.pt    and the one before it
                                  best.pt        the checkpoint of the best scored step
                                  train.log      what the training process printed
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import tempfile
from pathlib import Path

from . import provenance
from .config import Config, difference
from .errors import ReproError

SCHEMA = 2
FINISHED = ("complete", "collapsed", "diverged")  # nothing left to train
STATUSES = (*FINISHED, "running", "interrupted", "failed")
SELECTION = "lowest FID among the scored steps"
PICTURE = ".jpg"  # how a run's pictures and the sheet of real images end; `sheets.picture` encodes them
PICTURES = ("samples", "attention", "neighbours", "interpolations", "shadow")
# exit code of a run that stopped on request and can be continued (EX_TEMPFAIL of sysexits.h)
INTERRUPTED = 75
PROJECT = Path(__file__).resolve().parent.parent


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is written and the same command continues it."""


class RankDied(RuntimeError):
    """A process of a data-parallel run ended on its own; the same command continues the run."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` by way of a file beside it, so that a reader or a crash never meets half of
    it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(part, 0o644)
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


_NUMBER, _OBJECT = {"type": "number"}, {"type": "object"}
_SCORE = {
    "type": "object",
    "required": ["step", "fid", "is", "diversity"],
    "properties": {
        "step": {"type": "integer", "minimum": 0},
        "fid": {"type": "number", "minimum": 0},
        "kid_by_class": {"type": "object", "additionalProperties": _NUMBER},
    },
    "additionalProperties": _NUMBER,
}
RECORD_SCHEMA = {  # JSON Schema of run.json, version `SCHEMA`
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": [
        "schema",
        "row",
        "config",
        "status",
        "error",
        "step",
        "parameters",
        "history",
        "scores",
        "provenance",
    ],
    "properties": {
        "row": {"type": "string"},
        "config": {
            "type": "object",
            "required": ["recipe", "preset", "seed"],
            "properties": {"recipe": _OBJECT, "preset": _OBJECT},
        },
        "status": {"enum": list(STATUSES)},
        "error": {"type": ["string", "null"]},
        "step": {"type": "integer", "minimum": 0},
        "parameters": {"type": "object", "required": ["generator", "discriminator"]},
        "history": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["step", "loss_d", "loss_g", "gamma_g", "gamma_d"],
                "properties": {
                    "step": {"type": "integer"},
                    "loss_d": _NUMBER,
                    "loss_g": _NUMBER,
                    "gamma_g": _OBJECT,
                    "gamma_d": _OBJECT,
                },
            },
        },
        "scores": {"type": "array", "items": _SCORE},
        "definition": _OBJECT,  # what the scores are: extractor, reference images, samples
        "attention": {"type": "array", "items": {"type": "object", "required": ["step"]}},
        "neighbours": _OBJECT,
        "shadow": _OBJECT,  # scores of an average of G's weights that training never saw, at the last step
        "resampled": {"type": "array", "items": _OBJECT},  # scores of the last step with other sampling seeds
        "final": _SCORE,
        "best": _SCORE,
        "real": _OBJECT,  # scores of real images that are no reference,
        "noise": _OBJECT,  # and of uniform noise
        "provenance": {"type": "object", "required": ["wall_seconds"]},
    },
}


@functools.cache
def _validate():
    import fastjsonschema

    return fastjsonschema.compile(RECORD_SCHEMA)


@dataclasses.dataclass(frozen=True)
class Run:
    """One run folder."""

    folder: Path

    @property
    def json_path(self) -> Path:
        """Where the record is."""
        return self.folder / "run.json"

    @property
    def checkpoint_path(self) -> Path:
        """Where the latest checkpoint is."""
        return self.folder / "checkpoint.pt"

    @property
    def previous_path(self) -> Path:
        """Where the checkpoint before the latest one is."""
        return self.folder / "previous.pt"

    @property
    def best_path(self) -> Path:
        """Where the checkpoint of the best scored step is."""
        return self.folder / "best.pt"

    @property
    def samples_path(self) -> Path:
        """Where the sheet of samples is."""
        return self.picture("samples")

    @property
    def maps_path(self) -> Path:
        """Where the attention maps are."""
        return self.folder / "attention.npz"

    def picture(self, name: str) -> Path:
        """Where one of `PICTURES` is drawn."""
        return self.folder / f"{name}{PICTURE}"

    def read(self) -> dict | None:
        """The record, or None when there is none. Raises ReproError for one that cannot be read or is of
        another schema.
        """
        try:
            record = json.loads(self.json_path.read_text())
            schema = record["schema"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ReproError(
                f"{self.json_path} cannot be read ({error}): move it away and the run is trained again."
            ) from error
        if schema != SCHEMA:
            raise ReproError(
                f"{self.json_path} has schema {schema} and this version reads {SCHEMA}:"
                f" {_of_another_schema(record)}."
            )
        try:
            return _validate()(record)
        except ValueError as wrong:  # fastjsonschema's own
            raise ReproError(
                f"{self.json_path} is not a run record: {str(wrong)[:200]}: move it away."
            ) from wrong

    def write(self, record: dict) -> None:
        """Replace the record."""
        write_atomically(self.json_path, as_text(record).encode())

    def check_same(self, config: Config) -> dict | None:
        """The stored record when it is of this configuration; None when there is none.

        Raises ReproError naming the fields that differ otherwise.
        """
        record = self.read()
        if record is None:
            return None
        fields = difference(record["config"], config.identity)
        if fields:
            raise ReproError(
                f"{self.folder} holds a run of another configuration ({'; '.join(fields)}):"
                " move it away, or choose another folder with --out."
            )
        return record


def _of_another_schema(record: dict) -> str:
    """What to do with a record that this version does not read."""
    if not (isinstance(record["schema"], int) and record["schema"] < SCHEMA):
        return "a newer version made the run; update repro"
    try:
        made_by = ", then ".join(provenance.revisions(record))
    except (KeyError, TypeError):
        made_by = "unknown"
    with_it = f", or use the version that made it ({made_by})" if made_by != "unknown" else ""
    return f"an older version made the run; move its folder away and train it again{with_it}"


def as_text(record: dict) -> str:
    """JSON with a line for each logged step and each score: a record is read and compared by lines, and most
    of it are these.
    """

    def of(value) -> str:
        if isinstance(value, list) and value:
            return "[\n" + ",\n".join(f"  {json.dumps(entry, allow_nan=False)}" for entry in value) + "\n ]"
        return json.dumps(value, indent=1, allow_nan=False).replace("\n", "\n ")

    return "{\n" + ",\n".join(f" {json.dumps(name)}: {of(value)}" for name, value in record.items()) + "\n}\n"


def shortened(value):
    """Numbers of float32 in the nine digits that name them, instead of the seventeen of float64."""
    if isinstance(value, dict):
        return {name: shortened(of) for name, of in value.items()}
    return float(f"{value:.9g}") if isinstance(value, float) else value


def stored(study: Path) -> list[Run]:
    """The runs in a study's folder; those that a person moved away, such as seed0-old, are left out."""
    found = sorted(study.glob("runs/*/seed*/run.json"))
    return [Run(path.parent) for path in found if path.parent.name[4:].isdigit()]


def run_folder(out: str | Path, preset: str, row: str, seed: int) -> Path:
    """The folder of a run."""
    return Path(out) / preset / "runs" / row / f"seed{seed}"


def unstable(record: dict) -> bool:
    """Whether training broke down: a comparison with such a run has no interval, and tables name its status,
    as its last scores say nothing of its end.
    """
    return record["status"] in ("collapsed", "diverged")


def best(scores: list[dict]) -> dict | None:
    """The scored step of the lowest FID (`SELECTION`)."""
    return min(scores, key=lambda s: s["fid"], default=None)
