"""What the viewer asks of an engine, as plain values and arrays. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_ctxseg.engine.protocol import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ctxseg.compare.plan import ComparePlan
    from napari_ctxseg.engine.protocol import Scratch


@dataclass(frozen=True)
class NetworkRequest:
    """The network whose cross-entropy is wanted, and the image it sees.

    Parameters
    ----------
    run : str
        A run folder.
    token : int
        Number of the image, chosen by the asker; the lane keeps the last image it was sent.
    index : int
        Slice along the first spatial axis; 0 in 2-D.
    image : ndarray or None
        Shape ``(C, *S)``; None if the lane has the image of this token already.
    compute : bool
        False: only what is known already, so that a stroke never waits for a network.
    """

    run: str
    token: int
    index: int = 0
    image: NDArray[Any] | None = None
    compute: bool = True


@dataclass(frozen=True)
class MapsRequest:
    """What a loss sees in one slice or volume.

    Parameters
    ----------
    loss : mapping
        Plain values of a loss configuration.
    spacing : tuple of float
        One per axis of the target.
    values : tuple of int
        Class values in the order of the indices 1, 2, ...; a model trained on others is refused.
    target : ndarray or None
        Class indices, -1 where unlabelled; None: the same as last time.
    index : int or None
        Slice of a 3-D target that is to be sent back; None: all of it.
    network : NetworkRequest or None
        For the maps of cross-entropy and loss.
    """

    loss: Mapping[str, Any]
    spacing: tuple[float, ...]
    values: tuple[int, ...]
    target: NDArray[Any] | None
    index: int | None = None
    network: NetworkRequest | None = None


def maps_message(request: MapsRequest, scratch: Scratch) -> dict[str, Any]:
    """A request as plain values; its arrays are written to the scratch folder."""
    network = request.network
    return {
        "type": "maps",
        "loss": dict(request.loss),
        "spacing": [float(step) for step in request.spacing],
        "values": [int(value) for value in request.values],
        "target": None if request.target is None else scratch.put(request.target),
        "index": request.index,
        "network": None
        if network is None
        else {
            "run": network.run,
            "token": network.token,
            "index": network.index,
            "image": None if network.image is None else scratch.put(network.image),
            "compute": network.compute,
        },
    }


def read_maps(message: Mapping[str, Any], scratch: Scratch) -> MapsRequest:
    """The request of a message; its arrays are loaded and their files deleted.

    Raises
    ------
    ProtocolError
        If something is missing or of the wrong kind.
    """
    try:
        network, index = message["network"], message["index"]
        return MapsRequest(
            loss=dict(message["loss"]),
            spacing=tuple(map(float, message["spacing"])),
            values=tuple(map(int, message["values"])),
            target=None if message["target"] is None else scratch.take(message["target"]),
            index=None if index is None else int(index),
            network=None
            if network is None
            else NetworkRequest(
                run=str(network["run"]),
                token=int(network["token"]),
                index=int(network["index"]),
                image=None if network["image"] is None else scratch.take(network["image"]),
                compute=bool(network["compute"]),
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"a request for maps cannot be read ({type(error).__name__}: {error})") from error


def compare_message(
    folder: Path, plan: ComparePlan | None, threads: int, *, retry_failed: bool
) -> dict[str, Any]:
    """A comparison in a folder: a new one, or without a plan the folder's own."""
    return {
        "type": "compare",
        "folder": str(folder.absolute()),
        "plan": None if plan is None else plan.model_dump(mode="json"),
        "retry_failed": retry_failed,
        "threads": threads,
    }


def figure_message(recipe: Path, out: Path | None, width: int) -> dict[str, Any]:
    """The preview of a recipe, or its picture."""
    written = None if out is None else str(out.absolute())
    return {"type": "figure", "recipe": str(recipe.absolute()), "out": written, "width": int(width)}
