"""First weights from elsewhere: a ResNet-34 trained on ImageNet, from a file or downloaded once."""

from __future__ import annotations

import hashlib
import http.client
import logging
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch
import torch
from platformdirs import user_cache_path
from torch import Tensor

from napari_ctxseg.atomic import write_atomic
from napari_ctxseg.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_ctxseg.config import NetworkBase
    from napari_ctxseg.networks.resnet import ResNetEncoder

_log = logging.getLogger(__name__)

#: torchvision's ResNet-34; the last part of its name is the beginning of its SHA-256.
IMAGENET = "https://download.pytorch.org/models/resnet34-b627a593.pth"
#: Bytes per read, and seconds without any after which a download has failed.
CHUNK, PATIENCE = 1 << 20, 30.0
_REMEDY = "Give a .pth or .safetensors file with torchvision's ResNet-34, or set network.weights to imagenet"


def load_encoder(encoder: ResNetEncoder, weights: str) -> None:
    """Take over the weights of a ResNet with torchvision's names; its classifier is left out.

    A first layer for another number of channels than the file's is the mean over the file's channels, repeated, and scaled
    so that equal channels give what they gave there. In 3-D every kernel is repeated along z and divided by its depth
    (Carreira and Zisserman 2017): a volume of equal slices gives what one slice gives.

    Parameters
    ----------
    encoder : ResNetEncoder
        As built, with batch normalisation.
    weights : str
        A path, or ``"imagenet"``.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or holds something else, or cannot be downloaded.
    """
    path = imagenet_file() if weights == "imagenet" else Path(weights).expanduser()
    given = read_weights(path)
    own = encoder.state_dict()
    wanted = {name for name in own if not name.endswith("num_batches_tracked")}
    missing = sorted(wanted - set(given))
    if missing:
        raise CheckpointError(
            path,
            f"is no ResNet-34: {len(missing)} of {len(wanted)} tensors are missing, {missing[0]} first",
            _REMEDY,
        )
    own |= {name: fitted(name, given[name], own[name], path) for name in wanted}
    encoder.load_state_dict(own)


def fitted(name: str, given: Tensor, own: Tensor, path: Path) -> Tensor:
    """A tensor of the file in the shape that the encoder needs.

    Raises
    ------
    CheckpointError
        If it cannot be brought to that shape.
    """
    if own.ndim == 5 and given.ndim == 4:
        depth = own.shape[2]
        given = given.unsqueeze(2).expand(-1, -1, depth, -1, -1) / depth
    if name == "conv1.weight" and given.ndim == own.ndim and given.shape[1] != own.shape[1]:
        channels, wanted = given.shape[1], own.shape[1]
        given = given.mean(dim=1, keepdim=True).expand(-1, wanted, *given.shape[2:]) * (channels / wanted)
    if given.shape != own.shape:
        width = (
            "" if given.shape[0] == own.shape[0] else f"Set network.width to {_width_of(name, given)}; or: "
        )
        raise CheckpointError(
            path,
            f"does not fit: {name} has shape {tuple(given.shape)}, this network needs {tuple(own.shape)}",
            f"{width}{_REMEDY}",
        )
    return given.to(own.dtype)


def _width_of(name: str, given: Tensor) -> int:
    """Channels of the file's first level, from any of its tensors."""
    level = next((n for n in range(1, 5) if name.startswith(f"layer{n}")), 1)
    return int(given.shape[0] // 2 ** (level - 1))


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Named tensors of a ``.safetensors`` or ``.pth`` file, without running code that may be in it.

    Raises
    ------
    CheckpointError
        If the file is missing or holds anything but named tensors.
    """
    if not path.is_file():
        raise CheckpointError(path, "is not there", _REMEDY)
    try:
        if path.suffix == ".safetensors":
            values = safetensors.torch.load_file(path)
        else:
            values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise CheckpointError(path, f"cannot be read as weights ({reason})", _REMEDY) from error
    if not isinstance(values, dict) or not all(isinstance(v, Tensor) for v in values.values()):
        raise CheckpointError(path, "does not hold named tensors", _REMEDY)
    return values


def imagenet_file(
    url: str | None = None, folder: Path | None = None, report: Callable[[int, int], None] | None = None
) -> Path:
    """File with the ImageNet weights, downloaded if it is not there yet or damaged.

    Parameters
    ----------
    url : str, optional
        `IMAGENET` if not given. Ends in ``-HEX.pth``, where HEX begins the file's SHA-256.
    folder : Path, optional
        Where it is kept; the user's cache if not given.
    report : callable, optional
        Told bytes so far and in all (0 if unknown); by default every tenth is logged.

    Raises
    ------
    CheckpointError
        If it cannot be downloaded, or what arrives is something else.
    """
    url = url or IMAGENET
    folder = folder or user_cache_path("napari-ctxseg") / "weights"
    path = folder / url.rpartition("/")[2]
    wanted = path.stem.rpartition("-")[2]
    if path.is_file() and _sha256(path).startswith(wanted):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    _log.info("Downloading %s to %s", url, path)
    write_atomic(
        path,
        lambda temp: _download(url, temp, report or _logged()),
        check=lambda temp: _check(temp, url, wanted),
        suffix=path.suffix,
    )
    return path


def _download(url: str, temp: Path, report: Callable[[int, int], None]) -> None:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer, open(temp, "wb") as file:
            total = int(answer.headers.get("Content-Length") or 0)
            done = 0
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                report(done, total)
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        reason = (
            error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", None) or error
        )
        raise CheckpointError(
            "network.weights imagenet",
            f"{url} cannot be downloaded ({reason})",
            "Connect to the internet once, or download the file elsewhere and set network.weights to its path",
        ) from error


def _check(temp: Path, url: str, wanted: str) -> None:
    found = _sha256(temp)
    if not found.startswith(wanted):
        raise CheckpointError(
            "network.weights imagenet",
            f"what arrived from {url} is not that file: its SHA-256 begins with {found[:8]}, not {wanted}",
            "Try again, or download the file elsewhere and set network.weights to its path",
        )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _logged() -> Callable[[int, int], None]:
    tenths = 0

    def report(done: int, total: int) -> None:
        nonlocal tenths
        if total and 10 * done // total > tenths:
            tenths = 10 * done // total
            _log.info("%d %% of %.0f MB", 10 * tenths, total / 1e6)

    return report


def notes_on_weights(network: NetworkBase) -> list[str]:
    """What the person should know about a network's first weights; downloads them where they are asked for.

    Raises
    ------
    CheckpointError
        If they cannot be downloaded.
    """
    weights = getattr(network, "weights", None)
    if not weights:
        return []
    source = imagenet_file() if weights == "imagenet" else weights
    notes = [f"The encoder starts from the weights in {source}"]
    if network.in_channels not in (None, 3):
        notes.append(
            f"Its first layer was made for 3 channels and is averaged for the {network.in_channels} of these images"
        )
    return notes
