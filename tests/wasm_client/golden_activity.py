"""Golden cases of the module for recordings: a motion made of integers alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from propeller_fl.wire import Format, encode_document
from tests.wasm_client.golden import Case

Document = dict[str, Any]

CHANNELS = 3
CLASSES = 2


def recording(samples: int) -> Document:
    """Two motions, slow and fast, one after the other; bytes of three channels."""
    time = np.arange(samples)
    labels = (time >= samples // 2).astype(np.uint8)
    period = np.where(labels == 1, 20, 64)
    wave = abs(time % period * 2 - period)  # a triangle
    noise = np.arange(1, samples * CHANNELS + 1, dtype=np.uint64) * 2654435761 % 65536 // 8192
    x = 100 + wave[:, None] * np.arange(1, CHANNELS + 1) // 4 + noise.reshape(samples, CHANNELS)
    return {"x": x.astype(np.uint8), "y": labels, "x_scale": 1 / 128}


def untrained() -> Document:
    """The model that a first round begins with."""
    return {
        "moments": np.zeros((2, 3 * CHANNELS), np.float32),
        "W": np.zeros((3 * CHANNELS, CLASSES), np.float32),
        "b": np.zeros(CLASSES, np.float32),
        "version": 0,
    }


def trained() -> Document:
    """One with moments of others, and weights."""
    mean = np.repeat(np.array([1, -5, -4], np.float32), CHANNELS)
    weights = np.arange(3 * CHANNELS * CLASSES, dtype=np.float32).reshape(-1, CLASSES) / 16 - 0.5
    return untrained() | {
        "moments": np.stack([mean, mean * mean + np.float32(0.5)]),
        "W": weights,
        "version": 4,
    }


def cases(env: dict[str, str]) -> list[Case]:
    """Every form and mode, with and without moments; and what is refused."""
    env = env | {"HYPERPARAMS": '{"epochs":2,"lr":0.1,"batch_size":4,"l2":0.001}'}
    found = []

    def add(name: str, model: Document, data: Document, form: Format, **more: str) -> None:
        files = {"model": encode_document(model, form), "data": encode_document(data, form)}
        found.append(Case(f"activity-{name}", env | more, files, 0, b"", ""))

    motion = recording(700)
    for form in Format:
        for mode in ("train", "evaluate"):
            more = {"FL_MODE": mode, "FL_UPDATE_FORMAT": form.value}
            add(f"{mode}-{form.value}", trained(), motion, form, **more)
    for form_of_update in ("float16", "int8-delta"):
        more = {"FL_UPDATE_FORMAT": form_of_update}
        add(f"train-{form_of_update}", trained(), motion, Format.CBOR, **more)
    more = {"FL_UPDATE_FORMAT": "cbor"}
    add("first-round", untrained(), motion, Format.CBOR, **more)
    add("first-evaluate", untrained(), motion, Format.CBOR, FL_MODE="evaluate", **more)
    floats = motion | {"x": motion["x"].astype(np.float32) / 128, "x_scale": 1.0}
    add("floats-at-rest", trained(), floats | {"x": floats["x"] * 0}, Format.CBOR, **more)

    def bad(name: str, stderr: str, model: Document, data: Document) -> None:
        files = {
            "model": encode_document(model, Format.CBOR),
            "data": encode_document(data, Format.CBOR),
        }
        found.append(Case(f"activity-bad-{name}", env, files, 1, b"", stderr + "\n"))

    zeros = np.zeros((1, 3 * CHANNELS), np.float32)
    bad(
        "model-moments",
        'model: "moments" has 1 in dimension 0, not 2',
        trained() | {"moments": zeros},
        motion,
    )
    bad(
        "model-features",
        'model: "moments" has 6 in dimension 1, "W" has 9',
        trained() | {"moments": np.zeros((2, 6), np.float32)},
        motion,
    )
    two = motion | {"x": motion["x"][:, :2]}
    bad(
        "data-channels",
        'model: "moments" has 9 in dimension 1, three times the data\'s channels are 6',
        trained(),
        two,
    )
    bad("data-too-short", "data: no window has one label", trained(), recording(99))
    bad(
        "data-labels",
        "data: a label is 7, not an integer from 0 to 1",
        trained(),
        motion | {"y": np.full_like(motion["y"], 7)},
    )
    return found
