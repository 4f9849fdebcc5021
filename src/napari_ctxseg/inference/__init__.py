"""Whole-image prediction."""

from napari_ctxseg.inference.predictor import Model, load_members, load_model, predict

__all__ = ["Model", "load_members", "load_model", "predict"]
