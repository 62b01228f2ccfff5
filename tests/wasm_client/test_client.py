"""What a client promises its host: the same bytes for the same input, from wherever it comes."""

from __future__ import annotations

import numpy as np
import pytest

from propeller_fl.datasets import load
from propeller_fl.wire import Format, decode_document, decode_tensors, encode_document
from tests.wasm_client.golden import FOLDER, Case
from tests.wasm_client.wasmtime_run import WasmtimeRunner

CASE = Case.load(FOLDER / "softmax-train-cbor")


@pytest.fixture
def softmax(runners: dict[str, WasmtimeRunner]) -> WasmtimeRunner:
    return runners["softmax"]


def test_the_order_of_samples_comes_from_the_seed(softmax: WasmtimeRunner) -> None:
    def stdout(**env: str) -> bytes:
        update = decode_document(softmax.run(CASE.env | env, CASE.files).stdout)
        return encode_document(update["update"], Format.CBOR)

    assert stdout() == stdout()
    assert stdout(FL_SEED="1") == stdout(FL_SEED="1", ROUND_ID="other", PROPLET_ID="other")
    variants = [{}, {"FL_SEED": "0"}, {"FL_SEED": "1"}, {"ROUND_ID": "r-2"}, {"PROPLET_ID": "p-2"}]
    assert len({stdout(**env) for env in variants}) == len(variants)


def test_both_update_formats_hold_the_same_floats(softmax: WasmtimeRunner) -> None:
    updates = [
        decode_document(softmax.run(CASE.env | {"FL_UPDATE_FORMAT": form}, CASE.files).stdout)
        for form in ("json", "cbor")
    ]

    texts, arrays = (decode_tensors(update["update"], "update") for update in updates)
    assert list(texts) == list(arrays) == ["W", "b"]
    for name, array in arrays.items():
        assert array.tobytes() == texts[name].tobytes()
    keys = ["round_id", "proplet_id", "base_model_uri", "num_samples", "metrics", "update"]
    assert [list(update) for update in updates] == [keys, keys]


def test_json_and_cbor_inputs_give_the_same_update(softmax: WasmtimeRunner) -> None:
    text = {
        name: encode_document(decode_document(content), Format.JSON)
        for name, content in CASE.files.items()
    }

    assert softmax.run(CASE.env, text).stdout == CASE.stdout


@pytest.mark.parametrize("mounted_as", ["/fl", "/"])
def test_any_directory_that_holds_the_files_will_do(
    mounted_as: str, softmax: WasmtimeRunner
) -> None:
    assert softmax.run(CASE.env, CASE.files, mounted_as=mounted_as).stdout == CASE.stdout


def test_without_a_directory_the_environment_is_read(runners: dict[str, WasmtimeRunner]) -> None:
    case = Case.load(FOLDER / "linear-from-environment")

    assert runners["linear"].run(case.env, {}, mounted_as=None).stdout == case.stdout


def test_a_file_comes_before_the_environment(softmax: WasmtimeRunner) -> None:
    env = CASE.env | {"MODEL_DATA": "nonsense", "DATASET_DATA": "nonsense"}

    assert softmax.run(env, CASE.files).stdout == CASE.stdout


def test_data_may_be_larger_than_memory(softmax: WasmtimeRunner) -> None:
    digits = load("digits")
    many = digits.take(np.tile(np.arange(len(digits)), 10))
    files = CASE.files | {"data": many.encode(Format.CBOR)}
    assert len(files["data"]) > 1_000_000

    done = softmax.run(CASE.env | {"FL_MODE": "evaluate"}, files)

    assert decode_document(done.stdout)["num_samples"] == 17970
