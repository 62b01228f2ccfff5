"""What the modules compute, once more in numpy and float64, for batches of any one size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Params = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Settings:
    """The hyperparameters, as the modules take them."""

    epochs: int
    lr: float
    batch_size: int
    l2: float = 0.0
    mu: float = 0.0


def _linear(params: Params, x: Array, y: NDArray[np.intp]) -> tuple[Array, Array, Params]:
    z = x @ params["w"] + params["b"]
    probability = 1 / (1 + np.exp(-z))
    error = probability - y
    loss = np.logaddexp(0, z) - y * z
    return loss, (z > 0) == (y == 1), {"w": x.T @ error, "b": error.sum()}


def _softmax(params: Params, x: Array, y: NDArray[np.intp]) -> tuple[Array, Array, Params]:
    hidden = "W1" in params
    h = np.maximum(x @ params["W1"] + params["b1"], 0) if hidden else x
    weights, biases = ("W2", "b2") if hidden else ("W", "b")
    z = h @ params[weights] + params[biases]
    log_p = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    error = np.exp(log_p) - np.eye(z.shape[1])[y]
    gradient = {weights: h.T @ error, biases: error.sum(axis=0)}
    if hidden:
        back = (error @ params["W2"].T) * (h > 0)
        gradient |= {"W1": x.T @ back, "b1": back.sum(axis=0)}
    return -log_p[np.arange(len(y)), y], z.argmax(axis=1) == y, gradient


def train(
    params: dict[str, Any], x: NDArray[Any], y: NDArray[Any], settings: Settings
) -> tuple[Params, float, float]:
    """Train in the order of the samples; return the parameters and the last epoch's loss and
    accuracy, each sample measured just before the step it took part in."""
    trained: Params = {name: np.asarray(value, float) for name, value in params.items()}
    start = dict(trained)
    model = _linear if "w" in params else _softmax
    samples, labels = x.astype(float), y.astype(np.intp)
    losses: list[Array] = []
    rights: list[Array] = []
    for _ in range(settings.epochs):
        losses, rights = [], []
        for first in range(0, len(y), settings.batch_size):
            batch = slice(first, first + settings.batch_size)
            loss, right, gradient = model(trained, samples[batch], labels[batch])
            losses.append(loss)
            rights.append(right)
            trained = {
                name: value
                - settings.lr
                * (
                    gradient[name] / len(loss)
                    + (settings.l2 * value if name in ("w", "W", "W1", "W2") else 0)
                    + settings.mu * (value - start[name])
                )
                for name, value in trained.items()
            }
    return trained, float(np.concatenate(losses).mean()), float(np.concatenate(rights).mean())
