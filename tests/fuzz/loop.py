"""Runs a target without a coverage-guided engine: the kept inputs first, then changed ones.

The same number of inputs and seed give the same run.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable

from tests.fuzz.target import Target
from tests.fuzz.watch import Watch


def fuzz(
    target: Target, watch: Watch, known: Iterable[bytes], *, runs: int, seed: int
) -> list[bytes]:
    """Run ``runs`` inputs; return those, beyond ``known``, that were answered as none before."""
    rng = random.Random(seed)
    answers: set[Hashable] = set()
    pool = list(known) or [b""]
    found: list[bytes] = []
    for data in pool[:runs]:
        answers.add(watch.run(data))
    while watch.inputs < runs:
        data = target.mutate(rng, _pick(rng, pool), _pick(rng, pool))
        answer = watch.run(data)
        if answer not in answers:
            answers.add(answer)
            pool.append(data)
            found.append(data)
    return found


def _pick(rng: random.Random, pool: list[bytes]) -> bytes:
    """Any, but a small one rather than a large one: they take less time and show more."""
    return min(rng.choice(pool), rng.choice(pool), key=len)
