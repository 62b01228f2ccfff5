"""What ten people did, from the motion of their wrists: the recordings that seglearn carries.

D. Burns, N. Leung, M. Hardisty, C. Whyne, P. Henry and S. McLachlin, *Shoulder physiotherapy
exercise recognition: machine learning the inertial signals from a smartwatch*, Physiological
Measurement 39, 2018. <https://arxiv.org/abs/1802.01489>

They are not ours to ship: the package seglearn (BSD licence) is installed beside us, the extra
``activity``, and its file is read without its code, which would want pandas and scikit-learn.
"""

from __future__ import annotations

import functools
import importlib.metadata
import pickle
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from propeller_fl.datasets._dataset import Dataset
from propeller_fl.errors import ConfigError

SUBJECTS: Final = 10
"""People who were recorded; each is a part of the data set, since no two are alike."""

_FILE: Final = "seglearn/data/watch_dataset.npy"
_ZERO: Final = 128  # the byte for 0
_RANGE: Final = np.array([4, 4, 4, 10, 10, 10])  # g and rad/s: what 128 steps are

_UNREADABLE: Final = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError)


@functools.cache
def load_activity() -> tuple[Dataset, ...]:
    """The recordings of each of :data:`SUBJECTS`, read-only.

    ``x``  [samples, 6], uint8: acceleration and angular velocity, of three axes each, at 50 Hz
    ``y``  [samples], uint8: which of seven exercises it was

    Somebody's recordings follow each other: all exercises with the watch on the left, then on the
    right. A byte of 128 is 0, and a step 1/32 g or 10/128 rad/s; what is beyond 4 g or 10 rad/s
    is cut off, which are at most 0.4 % of anybody's samples of an axis.

    Raises :class:`ConfigError` when seglearn is not installed, or its file is another.
    """
    path = _path()
    try:
        # A pickle, which runs what it says: no more than the package that it came in could.
        found = np.load(path, allow_pickle=True).item()
        columns = [np.asarray(found[name]) for name in ("subject", "side", "y")]
        recordings = [np.asarray(one, np.float64) for one in found["X"]]
        return tuple(_of(subject, columns, recordings) for subject in range(1, SUBJECTS + 1))
    except (*_UNREADABLE, pickle.PickleError) as error:
        raise ConfigError(
            f"{path} does not hold the recordings: {error}",
            hint="pip install 'propeller-fl[activity]'",
        ) from error


def _path() -> Path:
    try:
        files = importlib.metadata.files("seglearn") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.as_posix() == _FILE:
            return Path(str(file.locate()))
    raise ConfigError(
        "the data set activity comes with seglearn, which is not installed",
        hint="pip install 'propeller-fl[activity]'",
    )


def _of(subject: int, columns: list[NDArray[Any]], recordings: list[NDArray[Any]]) -> Dataset:
    """One person's, in the order of side and exercise."""
    subjects, sides, labels = columns
    order = [i for i in np.lexsort((labels, sides)) if subjects[i] == subject]
    if not order or {recordings[i].shape[1:] for i in order} != {(len(_RANGE),)}:
        raise ValueError(f"there is nobody {subject} with {len(_RANGE)} channels")
    steps = np.concatenate([recordings[i] for i in order]) / _RANGE * _ZERO
    x = np.clip(np.rint(steps) + _ZERO, 0, 255).astype(np.uint8)
    y = np.repeat(labels[order].astype(np.uint8), [len(recordings[i]) for i in order])
    x.setflags(write=False)
    y.setflags(write=False)
    return Dataset(x, y, 1 / _ZERO)
