"""The mathematics of federated learning, on numpy arrays alone."""

from __future__ import annotations

from propeller_fl.learn._averages import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedProx, FedYogi
from propeller_fl.learn._mean import WeightedMean, mean_metrics
from propeller_fl.learn._registry import (
    GROUP,
    is_of_mean,
    strategy,
    strategy_arguments,
    strategy_digest,
    strategy_names,
)
from propeller_fl.learn._robust import MAX_KRUM, Krum, Median, MultiKrum, TrimmedMean
from propeller_fl.learn._strategy import (
    Aggregate,
    Argument,
    HeldUpdates,
    State,
    Strategy,
    Updates,
    Vector,
    choice,
    flag,
    integer,
    mean_change,
    number,
    refuse_counts,
)
from propeller_fl.learn._weighted_sum import Sum, sum_in_c, sum_in_numpy

__all__ = [
    "GROUP",
    "MAX_KRUM",
    "Aggregate",
    "Argument",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedProx",
    "FedYogi",
    "HeldUpdates",
    "Krum",
    "Median",
    "MultiKrum",
    "State",
    "Strategy",
    "Sum",
    "TrimmedMean",
    "Updates",
    "Vector",
    "WeightedMean",
    "choice",
    "flag",
    "integer",
    "is_of_mean",
    "mean_change",
    "mean_metrics",
    "number",
    "refuse_counts",
    "strategy",
    "strategy_arguments",
    "strategy_digest",
    "strategy_names",
    "sum_in_c",
    "sum_in_numpy",
]
