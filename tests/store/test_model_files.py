"""Models as files: each form gives the same model back, others read it, bad ones are named."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from propeller_fl.errors import MessageError
from propeller_fl.store import ModelFormat, convert, read_model_file
from propeller_fl.wire import Format, Model

MODEL = Model(
    {
        "w": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
        "file": np.asarray(0.1, np.float32),  # a name that numpy.savez does not take
        "a/b": np.ones(5, np.float32),
    },
    7,
)


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def is_the_same(found: Model, wanted: Model) -> bool:
    return (
        found.version == wanted.version
        and list(found.tensors) == list(wanted.tensors)
        and all(
            np.array_equal(found.tensors[name], wanted.tensors[name]) for name in wanted.tensors
        )
        and all(found.tensors[name].shape == wanted.tensors[name].shape for name in wanted.tensors)
    )


@pytest.mark.parametrize("form", list(ModelFormat))
@pytest.mark.parametrize("published", list(Format))
def test_there_and_back(form: ModelFormat, published: Format) -> None:
    document = MODEL.encode(published)
    data = convert(document, form)
    assert convert(document, form) == data  # the same every time
    assert is_the_same(read_model_file(data), MODEL)
    if form == str(published):
        assert data is document


def test_other_programs_read_them() -> None:
    document = MODEL.encode(Format.JSON)
    tensors = safetensors.numpy.load(convert(document, ModelFormat.SAFETENSORS))
    assert np.array_equal(tensors["w"], MODEL.tensors["w"])
    with np.load(io.BytesIO(convert(document, ModelFormat.NPZ))) as arrays:
        assert np.array_equal(arrays["w"], MODEL.tensors["w"])
        assert int(arrays["version"]) == 7


def test_files_of_other_programs() -> None:
    wide: dict[str, Any] = {"w": np.arange(3, dtype=np.float64), "n": np.ones((2, 2), np.int16)}
    for data in (safetensors.numpy.save(wide), npz(**wide)):
        model = read_model_file(data)
        assert model.version is None
        assert model.tensors["w"].dtype == np.float32
        assert np.array_equal(model.tensors["n"], wide["n"])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cannot be read"),
        (b"PK\x03\x04 and no more", "the npz file cannot be read"),
        (npz(w=np.array(["a"])), "holds <U1, not numbers"),
        (npz(w=np.ones(2, bool)), "holds bool, not numbers"),
        (npz(w=np.array([{}])), "the npz file cannot be read"),
        (npz(w=np.array([np.nan])), "model.w holds NaN"),
        (npz(w=np.ones((2, 0))), "model.w has no elements"),
        (npz(w=np.array([1e300])), "more than float32"),
        (npz(version=np.int64(3)), "model is not a map of tensors"),
        (npz(w=np.ones(1), version=np.ones(2)), "'version' is not one whole number"),
        (npz(w=np.ones(1), version=np.int64(-3)), "'version' is not one whole number"),
        (safetensors.numpy.save({"version": np.ones(1, np.float32)}), "is named 'version'"),
        (safetensors.numpy.save({"w": np.array([np.inf])}), "model.w holds NaN, infinity"),
        (safetensors.numpy.save({"w": np.ones(9)})[:-1], "no safetensors file"),
        (b"\xff\xff\xff\xff\0\0\0\0{}", "its header would have 4294967295 bytes"),
        (b"\x02\0\0\0\0\0\0\0{}", "not a map of tensors"),
        (b"\x04\0\0\0\0\0\0\0{[]}", "no safetensors file"),
    ],
)  # fmt: skip
def test_what_is_no_model(data: bytes, why: str) -> None:
    with pytest.raises(MessageError) as caught:
        read_model_file(data)
    assert why in str(caught.value)


def test_npz_of_a_size_that_is_not_to_be_unpacked() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", b"0")
    data = bytearray(buffer.getvalue())
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = b"\xf0\xff\xff\xff"  # its size, unpacked
    with pytest.raises(MessageError, match="more than"):
        read_model_file(bytes(data))
