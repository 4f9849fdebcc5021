"""Weights and state as safetensors that carry their own hash. No pickle, and never a file half written."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch

from napari_ctxseg import __version__
from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

#: Layout of the metadata; a file with a higher number comes from a newer version.
SCHEMA = 1
MODEL = "model.safetensors"
#: Generations of the exact state that are kept.
KEPT = 2


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, independent of how a file lays them out."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write tensors and JSON metadata atomically, with their hash inside.

    Raises
    ------
    FileError
        If the disk is full or the folder not writable; a file that was there before is unharmed.
    """
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    record = {"schema": SCHEMA, "version": __version__, "sha256": content_hash(plain), **meta}
    # Never sorted: the order of classes and regions is that of the network's channels.
    data = safetensors.torch.save(plain, metadata={"ctxseg": json.dumps(record)})
    write_bytes_atomic(path, data)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote and check its hash.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, foreign, or from a newer version.
    """
    if not path.is_file():
        raise CheckpointError(path, "is not there", "Name a run folder that holds model.safetensors")
    try:
        with safetensors.safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get("ctxseg")
            record = json.loads(text) if text else None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            path, f"cannot be read ({error})", "Use an earlier checkpoint or run"
        ) from error
    if not isinstance(record, dict) or "schema" not in record:
        raise CheckpointError(path, "was not written by ctxseg", "Name a run made by `ctxseg train`")
    if record["schema"] > SCHEMA:
        raise CheckpointError(
            path,
            f"comes from a newer version ({record.get('version')}) than this one ({__version__})",
            "Update napari-ctxseg",
        )
    if content_hash(tensors) != record.get("sha256"):
        raise CheckpointError(
            path, "is damaged: its content does not match its hash", "Use an earlier checkpoint or run"
        )
    return tensors, record


def regions_of(record: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Overlapping regions of a model by its metadata; empty where it has classes."""
    return {str(name): tuple(map(int, values)) for name, values in record.get("regions", {}).items()}


def described(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a model predicts by its metadata: its regions, or its classes."""
    return dict(regions_of(record) or record.get("classes", {}))


def optimiser_tensors(optimiser: torch.optim.Optimizer, prefix: str = "optim") -> dict[str, Tensor]:
    """State of an optimiser as named tensors."""
    return {
        f"{prefix}.{index}.{key}": torch.as_tensor(value)
        for index, values in optimiser.state_dict()["state"].items()
        for key, value in values.items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str = "optim"
) -> None:
    """Give an optimiser back what `optimiser_tensors` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(f"{prefix}."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors with ``prefix.`` before their names."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose names begin with ``prefix.``, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}


def save_state(folder: Path, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Path:
    """Write the exact state of one step and drop all but the last generations."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{step:08d}.safetensors"
    save_tensors(path, tensors, {**meta, "step": step})
    for old in _generations(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def _generations(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("*.safetensors") if p.stem.isdigit()), reverse=True)


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    """Newest state that is whole.

    Returns
    -------
    tensors, record, notes
        `notes` names the generations that were damaged.

    Raises
    ------
    CheckpointError
        If there is none.
    """
    notes: list[str] = []
    for path in _generations(folder):
        try:
            tensors, record = load_tensors(path)
        except CheckpointError as error:
            notes.append(f"{error} Going on from the state before it.")
        else:
            return tensors, record, notes
    raise CheckpointError(
        folder, "; ".join(notes) or "holds no state to go on from", "Train again without --resume"
    )


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], where: object) -> list[str]:
    """Take over weights; what differs in shape because the classes or channels differ is made anew.

    Returns
    -------
    list of str
        Names of the tensors that were left at their fresh values.

    Raises
    ------
    CheckpointError
        If the weights belong to another architecture.
    """
    own = network.state_dict()
    fits = {
        name: tensor for name, tensor in tensors.items() if name in own and own[name].shape == tensor.shape
    }
    renewed = sorted(set(own) - set(fits))
    if set(tensors) - set(own) or set(own) - set(tensors) or len(renewed) > len(own) // 4:
        raise CheckpointError(
            where, "its weights are of another network", "Choose the same model, or start from scratch"
        )
    own.update(fits)
    network.load_state_dict(own)
    return renewed
