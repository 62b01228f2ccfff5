"""A strategy of one's own: FedAvg in which nobody moves the model further than a bound."""

from dataclasses import dataclass

import numpy as np

from propeller_fl.learn import Aggregate, State, Strategy, Updates, Vector, number


@dataclass(frozen=True)
class ClippedMean(Strategy):
    """FedAvg, but each update moves the model by at most ``norm``; and it counts in how many rounds
    somebody was cut short."""

    norm: float = number(1.0, above=0, most=1e6)

    def aggregate(self, base: Vector, updates: Updates, state: State) -> Aggregate:
        total = np.zeros(base.size)
        cut = False
        for vector, weight in zip(updates.vectors(), updates.weights, strict=True):
            change = vector.astype(np.float64) - base
            length = float(np.linalg.norm(change))
            if length > self.norm:
                change *= self.norm / length
                cut = True
            total += weight * change
        rounds_cut = state.numbers.get("rounds_cut", 0.0) + cut
        model = base + total / sum(updates.weights)
        return Aggregate(model, State(numbers={"rounds_cut": rounds_cut}))
