"""Samples with labels, and the document a module reads them from."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from propeller_fl.errors import ConfigError
from propeller_fl.wire import Format, encode_document

_SCALES: Final[Mapping[str, float]] = {"digits": 1 / 16, "tumors": 1.0}

NAMES: Final = tuple(_SCALES)
"""The data sets there are."""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Labelled samples.

    ``x``        [n, features], uint8 or float32; a feature's value is ``x * x_scale``
    ``y``        [n], uint8, the class of each sample, from 0
    ``x_scale``  what every ``x`` is multiplied by
    """

    x: NDArray[Any]
    y: NDArray[np.uint8]
    x_scale: float = 1.0

    def __len__(self) -> int:
        return len(self.y)

    @property
    def features(self) -> int:
        return int(self.x.shape[1])

    @property
    def classes(self) -> int:
        return int(self.y.max()) + 1

    def take(self, indices: NDArray[np.intp]) -> Dataset:
        """The samples at ``indices``, in their order."""
        return Dataset(self.x[indices], self.y[indices], self.x_scale)

    def scaled(self) -> NDArray[np.float32]:
        """The features as a model sees them, float32 [n, features]."""
        return self.x.astype(np.float32) * np.float32(self.x_scale)

    def encode(self, form: Format) -> bytes:
        """The data document of the client contract, ``{"x", "y", "x_scale"}``.

        ``x_scale`` is left out where it is 1.
        """
        document: dict[str, Any] = {"x": self.x, "y": self.y}
        if self.x_scale != 1.0:
            document["x_scale"] = self.x_scale
        return encode_document(document, form)


@functools.cache
def load(name: str) -> Dataset:
    """Read one of :data:`NAMES`; its arrays are read-only. Raises :class:`ConfigError`."""
    if name not in _SCALES:
        raise ConfigError(f"there is no data set {name[:80]!r}", hint=f"one of {', '.join(NAMES)}")
    file = importlib.resources.files(__package__).joinpath(f"{name}.npz")
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"the data set {name} cannot be read: {error}", hint="install the package again"
        ) from error
    x.setflags(write=False)
    y.setflags(write=False)
    return Dataset(x, y, _SCALES[name])
