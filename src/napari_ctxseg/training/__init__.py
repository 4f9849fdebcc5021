"""The training loop as a generator of events, and what it needs."""

from napari_ctxseg.training.loop import fit

__all__ = ["fit"]
