"""Flower's own average, in the interpreter of .venv-flower: `python bench/flower.py SIZE UPDATES`.

Prints the updates a second of processor time of each of some repetitions, the best of which counts.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from flwr.server.strategy.aggregate import aggregate

REPETITIONS = 5


def main() -> None:
    size, updates = map(int, sys.argv[1:])
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=size).astype(np.float32) for _ in range(min(updates, 16))]
    results = [([vectors[number % len(vectors)]], 100) for number in range(updates)]
    for _ in range(REPETITIONS):
        begin_s = time.process_time()
        aggregate(results)
        print(updates / (time.process_time() - begin_s))


if __name__ == "__main__":
    main()
