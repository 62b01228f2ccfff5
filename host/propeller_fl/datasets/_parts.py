"""Test and training samples, and how the latter are shared out among proplets.

Each way returns one array of sample indices a part. Parts are disjoint, together they are all
samples, and none is empty. :class:`ConfigError` says so where that cannot be.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from propeller_fl.datasets._dataset import Dataset
from propeller_fl.errors import ConfigError

Indices = NDArray[np.intp]


def split(dataset: Dataset, *, test: float = 0.25, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Training and test samples, ``test`` of all (rounded up) in the latter.

    Stratified: each class has its share in both, to within one sample. The digits give 1,347 and
    450, the tumors 426 and 143.
    """
    if not 0 < test < 1:
        raise ConfigError(f"a test share of {test:g}", hint="more than 0 and less than 1")
    random = np.random.default_rng(seed)
    counts = _apportion(
        np.bincount(dataset.y, minlength=dataset.classes), math.ceil(test * len(dataset))
    )
    train_parts, test_parts = [], []
    for label, count in enumerate(counts):
        members = random.permutation(np.flatnonzero(dataset.y == label))
        test_parts.append(members[:count])
        train_parts.append(members[count:])
    return (
        dataset.take(random.permutation(np.concatenate(train_parts))),
        dataset.take(random.permutation(np.concatenate(test_parts))),
    )


def iid(dataset: Dataset, parts: int, *, seed: int = 0) -> list[Indices]:
    """Equal parts, to within one sample, drawn at random."""
    _check(dataset, parts)
    return list(np.array_split(np.random.default_rng(seed).permutation(len(dataset)), parts))


def dirichlet(dataset: Dataset, parts: int, *, alpha: float, seed: int = 0) -> list[Indices]:
    """Each class shared out in proportions drawn from Dirichlet(alpha): 0.1 is very uneven, 100
    nearly IID. A part that would be left with nothing gets a sample of the largest."""
    _check(dataset, parts)
    if not 0 < alpha < math.inf:
        raise ConfigError(f"a Dirichlet alpha of {alpha:g}", hint="more than 0")
    random = np.random.default_rng(seed)
    found: list[list[Indices]] = [[] for _ in range(parts)]
    for label in range(dataset.classes):
        members = random.permutation(np.flatnonzero(dataset.y == label))
        shares = random.dirichlet(np.full(parts, alpha))
        cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(np.intp)
        for part, piece in zip(found, np.split(members, cuts), strict=True):
            part.append(piece)
    joined = [np.concatenate(pieces) for pieces in found]
    for index in range(parts):
        if not len(joined[index]):
            largest = max(range(parts), key=lambda i: len(joined[i]))
            joined[index], joined[largest] = joined[largest][:1], joined[largest][1:]
    return joined


def shards(dataset: Dataset, parts: int, *, per_part: int = 2, seed: int = 0) -> list[Indices]:
    """Samples in the order of their labels, cut into ``parts * per_part`` runs, ``per_part`` of
    them dealt to each part: with 2, most parts know two classes."""
    if per_part < 1:
        raise ConfigError(f"{per_part} shards a part", hint="at least 1")
    _check(dataset, parts * per_part)
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(dataset))
    by_label = shuffled[np.argsort(dataset.y[shuffled], kind="stable")]
    runs = np.array_split(by_label, parts * per_part)
    dealt = random.permutation(len(runs)).reshape(parts, per_part)
    return [np.concatenate([runs[run] for run in hand]) for hand in dealt]


def _check(dataset: Dataset, parts: int) -> None:
    if not 1 <= parts <= len(dataset):
        raise ConfigError(
            f"{len(dataset)} samples cannot be cut into {parts} parts",
            hint="from 1 to as many as there are samples",
        )


def _apportion(counts: NDArray[np.intp], total: int) -> NDArray[np.intp]:
    """``total`` shared out in proportion to ``counts``, by largest remainder."""
    exact = counts * (total / counts.sum())
    whole: NDArray[np.intp] = np.floor(exact).astype(np.intp)
    largest = np.argsort(whole - exact, kind="stable")[: total - whole.sum()]
    whole[largest] += 1
    return whole
