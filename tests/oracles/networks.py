"""Layers straight from their equations; numpy and scipy only, nothing of ours."""

from __future__ import annotations

import numpy as np
from scipy import signal


def patient_norm(
    x: np.ndarray, patients: list[int], gamma: np.ndarray, beta: np.ndarray, eps: float = 1e-5
) -> np.ndarray:
    """Normalise each channel of each patient over all of that patient's samples and pixels."""
    y = np.empty_like(x)
    for patient in set(patients):
        mine = [k for k, p in enumerate(patients) if p == patient]
        for channel in range(x.shape[1]):
            values = x[mine, channel]
            centred = values - values.sum() / values.size
            variance = (centred**2).sum() / values.size
            y[mine, channel] = gamma[channel] * centred / np.sqrt(variance + eps) + beta[channel]
    return y


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """Zero-padded cross-correlation of one image ``(C, h, w)`` with ``(K, C, k, k)``, same size."""
    out = np.stack(
        [
            sum(signal.correlate2d(a, b, mode="same") for a, b in zip(x, kernels, strict=True))
            for kernels in weight
        ]
    )
    return out if bias is None else out + bias[:, None, None]


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def conv_lstm(slices: np.ndarray, wx: np.ndarray, wh: np.ndarray, b: np.ndarray) -> np.ndarray:
    """States of one sequence ``(T, C, h, w)``, first to last; weights and bias stacked in the order i, f, o, g."""
    n = len(b) // 4
    h = c = np.zeros((n, *slices.shape[2:]))
    states = []
    for x in slices:
        i, f, o, g = (
            convolve(x, wx[k * n : k * n + n], b[k * n : k * n + n]) + convolve(h, wh[k * n : k * n + n])
            for k in range(4)
        )
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.stack(states)
