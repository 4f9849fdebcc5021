"""Whole-image prediction."""

from napari_ctxseg.inference.predictor import Model, load_members, load_model, predict
from napari_ctxseg.inference.whole import Predicted, predict_case

__all__ = ["Model", "Predicted", "load_members", "load_model", "predict", "predict_case"]
