"""The training loop as a generator of events, and what it needs."""

from napari_ctxseg.training.fit import fit
from napari_ctxseg.training.methods import METHODS

__all__ = ["METHODS", "fit"]
