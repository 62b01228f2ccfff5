"""The model that a directory without models starts from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np

from propeller_fl.errors import ConfigError, MessageError
from propeller_fl.wire import Format, Model, Tensor, Tensors, format_of

_LINEAR: Final = re.compile(r"linear:([1-9][0-9]{0,6})", re.ASCII)
_SOFTMAX: Final = re.compile(
    r"softmax:([1-9][0-9]{0,6})x([1-9][0-9]{0,6})(?:x([1-9][0-9]{0,6}))?", re.ASCII
)
_MAX_PARAMETERS: Final = 50_000_000
_SEED: Final = 0


def initial_model(wanted: str, form: Format = Format.JSON) -> bytes:
    """Version 0 as it is published, for the setting ``model_server.initial_model``:

    ``linear:N``        zeros: w [N], b a scalar
    ``softmax:FxC``     zeros: W [F, C], b [C]
    ``softmax:FxHxC``   W1 [F, H] and W2 [H, C] by He's rule from a fixed seed, b1 [H], b2 [C] zero
    anything else       a file that holds a model, JSON or CBOR, published as it is

    Raises :class:`ConfigError`.
    """
    if match := _LINEAR.fullmatch(wanted):
        tensors: Tensors = {"w": _zeros(wanted, int(match[1])), "b": np.zeros((), np.float32)}
    elif match := _SOFTMAX.fullmatch(wanted):
        sizes = [int(size) for size in match.groups() if size]
        tensors = _mlp(wanted, *sizes) if len(sizes) == 3 else _softmax(wanted, *sizes)
    elif re.match(r"(linear|softmax):", wanted):
        raise _refused(wanted, "cannot be read", "linear:N, softmax:FxC, softmax:FxHxC or a file")
    else:
        return _from_file(wanted)
    return Model(tensors, version=0).encode(form)


def _softmax(wanted: str, features: int, classes: int) -> Tensors:
    return {"W": _zeros(wanted, features, classes), "b": np.zeros(classes, np.float32)}


def _mlp(wanted: str, features: int, hidden: int, classes: int) -> Tensors:
    generator = np.random.default_rng(_SEED)

    def he(rows: int, columns: int) -> Tensor:
        weights = _zeros(wanted, rows, columns)
        weights[:] = generator.standard_normal(weights.shape) * np.sqrt(2.0 / rows)
        return weights

    return {
        "W1": he(features, hidden),
        "b1": np.zeros(hidden, np.float32),
        "W2": he(hidden, classes),
        "b2": np.zeros(classes, np.float32),
    }


def _zeros(wanted: str, *shape: int) -> Tensor:
    if np.prod(shape, dtype=np.int64) > _MAX_PARAMETERS:
        raise _refused(wanted, "is too large", f"at most {_MAX_PARAMETERS} parameters")
    return np.zeros(shape, np.float32)


def _from_file(wanted: str) -> bytes:
    try:
        data = Path(wanted).expanduser().read_bytes()
        model = Model.decode(data)
    except OSError as err:
        hint = "linear:N, softmax:FxC, softmax:FxHxC or a file that exists"
        raise _refused(wanted, f"is no file to be read: {err.strerror}", hint) from err
    except (RuntimeError, ValueError) as err:  # no such user, a zero byte
        raise _refused(wanted, f"is no path: {err}", "") from None
    except MessageError as err:
        raise _refused(wanted, f"holds no model: {err}", "") from err
    if model.version == 0:
        return data
    if model.version is not None:
        raise _refused(wanted, f"holds version {model.version}", "take its version field away")
    return Model(model.tensors, version=0).encode(format_of(data))


def _refused(wanted: str, what: str, hint: str) -> ConfigError:
    return ConfigError(f"model_server.initial_model {wanted[:200]!r} {what}", hint=hint)
