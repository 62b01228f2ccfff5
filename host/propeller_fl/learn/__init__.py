"""The mathematics of federated learning, on numpy arrays alone."""

from __future__ import annotations

from propeller_fl.learn._mean import WeightedMean, mean_metrics

__all__ = ["WeightedMean", "mean_metrics"]
