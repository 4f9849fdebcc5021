"""Whole-image prediction."""

from napari_ctxseg.inference.predictor import Model, load_model, predict

__all__ = ["Model", "load_model", "predict"]
