"""The model that a directory without models starts from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np

from propeller_fl.errors import ConfigError, MessageError
from propeller_fl.store import is_document, read_model_file, shapes_in_file, tensor_bytes
from propeller_fl.wire import Format, Model, Tensor, Tensors, format_of

_LINEAR: Final = re.compile(r"linear:([1-9][0-9]{0,6})", re.ASCII)
_SOFTMAX: Final = re.compile(
    r"softmax:([1-9][0-9]{0,6})x([1-9][0-9]{0,6})(?:x([1-9][0-9]{0,6}))?", re.ASCII
)
_ACTIVITY: Final = re.compile(r"activity:([1-9][0-9]{0,3})x([1-9][0-9]{0,3})", re.ASCII)
_MAX_PARAMETERS: Final = 50_000_000
_SEED: Final = 0
_BUILT_IN: Final = re.compile(r"(activity|linear|softmax):")
_FORMS: Final = "linear:N, softmax:FxC, softmax:FxHxC, activity:NxC"
_HINT: Final = f"{_FORMS} or a file that exists"


def initial_model(wanted: str, form: Format = Format.JSON) -> bytes:
    """Version 0 as it is published, for the setting ``model_server.initial_model``:

    ``linear:N``        zeros: w [N], b a scalar
    ``softmax:FxC``     zeros: W [F, C], b [C]
    ``softmax:FxHxC``   W1 [F, H] and W2 [H, C] by He's rule from a fixed seed, b1 [H], b2 [C] zero
    ``activity:NxC``    zeros, for N channels: moments [2, 3N], W [3N, C], b [C]
    anything else       a file that holds a model: JSON or CBOR, which is published as it is,
                        safetensors or npz

    Raises :class:`ConfigError`.
    """
    made = initial_source(wanted)
    return made if isinstance(made, bytes) else Model(made.tensors, version=0).encode(form)


def large_file(wanted: str, above_bytes: int) -> Path | None:
    """The file of that setting, if it holds more than that in float32 numbers and can be published
    as it is. Raises :class:`ConfigError`."""
    if _BUILT_IN.match(wanted):
        return None
    path = _path_of(wanted)
    try:
        if path.suffix != ".safetensors" or path.stat().st_size <= above_bytes:
            return None
        return path if tensor_bytes(shapes_in_file(path)) > above_bytes else None
    except OSError as err:
        raise _refused(wanted, f"is no file to be read: {err.strerror}", _HINT) from err
    except MessageError as err:
        raise _refused(wanted, f"holds no model: {err}", "") from err


def initial_source(wanted: str) -> Model | bytes:
    """The same as a model to be encoded, or a document to be published as it is."""
    if match := _LINEAR.fullmatch(wanted):
        tensors: Tensors = {"w": _zeros(wanted, int(match[1])), "b": np.zeros((), np.float32)}
    elif match := _SOFTMAX.fullmatch(wanted):
        sizes = [int(size) for size in match.groups() if size]
        tensors = _mlp(wanted, *sizes) if len(sizes) == 3 else _softmax(wanted, *sizes)
    elif match := _ACTIVITY.fullmatch(wanted):
        features = 3 * int(match[1])
        moments: Tensors = {"moments": _zeros(wanted, 2, features)}
        tensors = moments | _softmax(wanted, features, int(match[2]))
    elif _BUILT_IN.match(wanted):
        raise _refused(wanted, "cannot be read", f"{_FORMS} or a file")
    else:
        return _from_file(wanted)
    return Model(tensors)


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


def _from_file(wanted: str) -> Model | bytes:
    try:
        data = _path_of(wanted).read_bytes()
        model = read_model_file(data)
    except OSError as err:
        raise _refused(wanted, f"is no file to be read: {err.strerror}", _HINT) from err
    except ValueError as err:  # a zero byte
        raise _refused(wanted, f"is no path: {err}", "") from None
    except MessageError as err:
        raise _refused(wanted, f"holds no model: {err}", "") from err
    if model.version not in (None, 0):
        raise _refused(wanted, f"holds version {model.version}", "take its version field away")
    if not is_document(data):
        return model
    return data if model.version == 0 else Model(model.tensors, 0).encode(format_of(data))


def _path_of(wanted: str) -> Path:
    try:
        return Path(wanted).expanduser()
    except (RuntimeError, ValueError) as err:  # no such user, a zero byte
        raise _refused(wanted, f"is no path: {err}", "") from None


def _refused(wanted: str, what: str, hint: str) -> ConfigError:
    return ConfigError(f"model_server.initial_model {wanted[:200]!r} {what}", hint=hint)
