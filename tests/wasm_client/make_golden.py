"""Writes the golden vectors anew, from the cases below and what the built modules answer.

    python -m tests.wasm_client.make_golden

Look at the differences before committing them: a changed ``stdout`` is a changed client.
"""

from __future__ import annotations

import re
import shutil
from typing import Any

import cbor2
import numpy as np

from propeller_fl.datasets import load
from propeller_fl.wire import Format, UpdateFormat, encode_document
from tests.wasm_client.golden import FOLDER, Case
from tests.wasm_client.golden_activity import cases as activity_cases
from tests.wasm_client.modules import NAMES, image_of
from tests.wasm_client.wasmtime_run import WasmtimeRunner

Document = dict[str, Any]

ENV = {
    "ROUND_ID": "r-0001",
    "MODEL_URI": "fl/models/global_model_v0",
    "HYPERPARAMS": '{"epochs":1,"lr":0.5,"batch_size":16}',
    "PROPLET_ID": "proplet-1",
}
SEEDS_MODEL: Document = {
    "w": np.array([0.12, -0.05, 1.01], np.float32),
    "b": np.array(0.33, np.float32),
    "version": 3,
}


def digits(samples: int) -> Document:
    """The first ``samples`` digits."""
    data = load("digits")
    return {"x": data.x[:samples], "y": data.y[:samples], "x_scale": data.x_scale}


def tumors(samples: int) -> Document:
    """The first ``samples`` tumors: three features, as the seed's model has."""
    data = load("tumors")
    return {"x": data.x[:samples], "y": data.y[:samples]}


def layered(*sizes: int) -> Document:
    """A perceptron; numbers that look random, from integers alone."""

    def numbers(*shape: int) -> Any:
        count = int(np.prod(shape))
        mixed = (np.arange(1, count + 1, dtype=np.uint64) * 2654435761) % 65536
        return ((mixed.astype(np.float32) / 32768 - 1) / np.sqrt(sizes[0])).reshape(shape)

    if len(sizes) == 2:
        return {"W": numbers(*sizes), "b": np.zeros(sizes[1], np.float32), "version": 0}
    inputs, hidden, outputs = sizes
    return {
        "W1": numbers(inputs, hidden).astype(np.float32),
        "b1": np.full(hidden, 0.01, np.float32),
        "W2": numbers(hidden, outputs).astype(np.float32),
        "b2": np.zeros(outputs, np.float32),
        "version": 7,
    }


def tag(number: int, value: Any) -> cbor2.CBORTag:
    return cbor2.CBORTag(number, value)


def successes() -> list[Case]:
    """Both modules, with and without a hidden layer, in every form; and each option once."""
    found = []
    kinds = {
        "linear": (SEEDS_MODEL, tumors(40)),
        "softmax": (layered(64, 10), digits(40)),
        "softmax-hidden": (layered(64, 8, 10), digits(40)),
    }
    for kind, (model, data) in kinds.items():
        for form in Format:
            files = {"model": encode_document(model, form), "data": encode_document(data, form)}
            for mode in ("train", "evaluate"):
                env = ENV | {"FL_MODE": mode, "FL_UPDATE_FORMAT": form.value}
                found.append(Case(f"{kind}-{mode}-{form.value}", env, files, 0, b"", ""))

    for kind, (model, data) in kinds.items():
        files = {
            name: encode_document(document, Format.CBOR)
            for name, document in (("model", model), ("data", data))
        }
        for compact in (UpdateFormat.FLOAT16, UpdateFormat.INT8_DELTA):
            env = ENV | {"FL_UPDATE_FORMAT": compact.value}
            found.append(Case(f"{kind}-train-{compact}", env, files, 0, b"", ""))

    model, data = kinds["linear"]
    files = {
        "model": encode_document(model, Format.JSON),
        "data": encode_document(data, Format.CBOR),
    }

    def linear(name: str, stderr: str = "", **env: str) -> Case:
        return Case(f"linear-{name}", ENV | env, files, 0, b"", stderr)

    found += [
        linear("without-proplet-id", PROPLET_ID=""),
        linear("with-defaults", HYPERPARAMS="{}"),
        linear("with-seed", FL_SEED="4294967295"),
        linear("escaped-model-uri", MODEL_URI='http://host/a"b\\c?d=\u00e9\n'),
        linear("with-l2", HYPERPARAMS='{"epochs":3,"lr":0.1,"batch_size":7,"l2":0.01}'),
        linear("with-mu", HYPERPARAMS='{"epochs":3,"lr":0.1,"batch_size":7,"mu":0.5}'),
        linear("spaced-hyperparams", HYPERPARAMS=' { "lr" : 5e-1 ,\n"epochs": 2.0 } '),
        linear(
            "unknown-hyperparams",
            "warning: HYPERPARAMS: momentum is not known here\n"
            "warning: HYPERPARAMS: optimizer is not known here\n",
            HYPERPARAMS='{"momentum":0.9,"lr":0.5,"optimizer":"sgd"}',
        ),
        linear("int8-delta-of-a-model-in-json", FL_UPDATE_FORMAT="int8-delta"),
        linear("evaluate-int8-delta", FL_UPDATE_FORMAT="int8-delta", FL_MODE="evaluate"),
        linear("float16-without-proplet-id", FL_UPDATE_FORMAT="float16", PROPLET_ID=""),
        Case(
            "linear-float16-with-a-tensor-beyond-it",  # 65520 would round to infinity
            ENV | {"FL_UPDATE_FORMAT": "float16", "HYPERPARAMS": '{"lr":1e-6}'},
            files | {"model": b'{"w":[65519.9,-65520,1e-8],"b":0.1}'},
            0,
            b"",
            "",
        ),
        Case(
            "linear-int8-delta-beyond-float32",  # of which the sum of magnitudes is
            ENV
            | {
                "FL_UPDATE_FORMAT": "int8-delta",
                "HYPERPARAMS": '{"epochs":1,"lr":1,"batch_size":1}',
            },
            {"model": b'{"w":[0,0,0],"b":0}', "data": b'{"x":[[3e38,3e38,3e38]],"y":[1]}'},
            0,
            b"",
            "",
        ),
        Case(
            "linear-int8-delta-of-nothing",
            ENV | {"FL_UPDATE_FORMAT": "int8-delta"},
            {"model": files["model"], "data": b'{"x":[[0,0,0]],"y":[1]}'},
            0,
            b"",
            "",
        ),
        Case(
            "linear-from-environment",
            ENV
            | {
                "MODEL_DATA": encode_document(model, Format.JSON).decode(),
                "DATASET_DATA": encode_document(tumors(9), Format.JSON).decode(),
            },
            {},
            0,
            b"",
            "",
        ),
        Case(
            "linear-other-cbor",  # floats of other widths, an indefinite map, integers
            ENV,
            {
                "model": b"\xbf"
                + cbor2.dumps("b")
                + b"\xf9\x38\x00"  # 0.5
                + cbor2.dumps("w")
                + cbor2.dumps(tag(85, np.ones(3, "<f4").tobytes()))
                + b"\xff",
                "data": cbor2.dumps(
                    {
                        "y": tag(85, np.array([0, 1], "<f4").tobytes()),
                        "x": tag(40, [[2, 3], tag(64, bytes([1, 2, 3, 4, 5, 255]))]),
                        "x_scale": -1,
                    }
                ),
            },
            0,
            b"",
            "",
        ),
        Case(
            "softmax-largest-int8-delta",
            ENV
            | {
                "ROUND_ID": "round-20261128-041500",
                "PROPLET_ID": "greenhouse-7-north-3",
                "HYPERPARAMS": '{"epochs":2,"lr":0.5,"batch_size":16,"mu":0.01}',
                "FL_UPDATE_FORMAT": "int8-delta",
            },
            {
                "model": encode_document(layered(64, 32, 10), Format.CBOR),
                "data": encode_document(digits(135), Format.CBOR),
            },
            0,
            b"",
            "",
        ),
        Case(
            "softmax-largest",  # fills the arena, and writes a number in every style
            ENV
            | {
                "HYPERPARAMS": '{"epochs":2,"lr":0.5,"batch_size":16,"mu":0.01,"l2":0.0001}',
                "FL_UPDATE_FORMAT": "cbor",
            },
            {
                "model": encode_document(layered(64, 32, 10), Format.CBOR),
                "data": encode_document(digits(135), Format.CBOR),
            },
            0,
            b"",
            "",
        ),
    ]
    return found


def failures() -> list[Case]:
    """One fault each, and the name says which."""
    model = encode_document(SEEDS_MODEL, Format.JSON)
    data = encode_document(tumors(20), Format.CBOR)
    found: list[Case] = []

    def bad(name: str, stderr: str, *, module: str = "linear", **change: Any) -> None:
        """``stderr`` is text, in which # stands for any number."""
        env = {k: v for k, v in (ENV | change.pop("env", {})).items() if v is not None}
        files = {
            k: v for k, v in ({"model": model, "data": data} | change).items() if v is not None
        }
        found.append(Case(f"{module}-bad-{name}", env, files, 1, b"", _pattern(stderr)))

    def of_cbor(**values: Any) -> bytes:
        return cbor2.dumps(values)

    w3 = tag(85, np.ones(3, "<f4").tobytes())
    bad("round-id-missing", "ROUND_ID is not set", env={"ROUND_ID": None})
    bad(
        "round-id",
        "ROUND_ID is \"r/1\", not 1 to 64 letters, digits, '.', '_' or '-'",
        env={"ROUND_ID": "r/1"},
    )
    bad(
        "proplet-id-too-long",
        f"PROPLET_ID is \"{'p' * 65}\", not 1 to 64 letters, digits, '.', '_' or '-'",
        env={"PROPLET_ID": "p" * 65},
    )
    bad("model-uri-missing", "MODEL_URI is not set", env={"MODEL_URI": None})
    bad("mode", 'FL_MODE is "test", not train or evaluate', env={"FL_MODE": "test"})
    bad(
        "update-format",
        'FL_UPDATE_FORMAT is "CBOR", not json, cbor, float16 or int8-delta',
        env={"FL_UPDATE_FORMAT": "CBOR"},
    )
    for name, seed in (("seed", "-1"), ("seed-too-large", "4294967296")):
        bad(
            name,
            f'FL_SEED is "{seed}", not an integer from 0 to 4294967295',
            env={"FL_SEED": seed},
        )
    bad(
        "environment-too-large",
        "environment: no room for # x 1 bytes, # of 24576 are left",
        env={"FILLER": "x" * 24500},
    )

    def hyper(name: str, stderr: str, text: str) -> None:
        bad(f"hyperparams-{name}", f"HYPERPARAMS: {stderr}", env={"HYPERPARAMS": text})

    hyper("not-json", "byte 0: '{' expected", "lr=0.5")
    hyper("not-flat", "byte 9: a number expected", '{"other":[1]}')
    hyper("cut-off", "byte 9: ',' expected", '{"lr":0.5')
    hyper("trailing", "byte 11: the end expected", '{"lr":0.5} x')
    hyper("epochs-fraction", "epochs must be an integer from 1 to 10000", '{"epochs":1.5}')
    hyper("epochs-zero", "epochs must be an integer from 1 to 10000", '{"epochs":0}')
    hyper("lr-zero", "lr must be a number from 1e-6 to 1000", '{"lr":0}')
    hyper("lr-text", "lr must be a number from 1e-6 to 1000", '{"lr":"0.5"}')
    hyper("lr-null", "lr must be a number from 1e-6 to 1000", '{"lr":null}')
    hyper(
        "batch-size-too-large",
        "batch_size must be an integer from 1 to 1000000",
        '{"batch_size":1e9}',
    )

    def model_bad(name: str, stderr: str, content: bytes | None, module: str = "linear") -> None:
        if not stderr.startswith("W:"):
            stderr = f"model: {stderr}"
        bad(f"model-{name}", stderr, module=module, model=content)

    model_bad("missing", "neither /fl/model nor MODEL_DATA is there", None)
    model_bad("empty", "byte 0: '{' expected", b"")
    model_bad("not-json", "byte 0: '{' expected", b"\x89PNG")
    model_bad("cut-off-json", "byte 30: ',' expected", model[:30])
    model_bad("cut-off-cbor", "byte 6: more bytes expected", of_cbor(w=w3, b=0.5)[:10])
    model_bad("trailing", f"byte {len(model)}: the end expected", model + b"{}")
    model_bad("without-b", '"b" is missing', b'{"w":[1,2,3]}')
    model_bad("extra-tensor", '"c" is not expected', b'{"w":[1,2,3],"b":0,"c":1}')
    model_bad("twice", '"w" is there twice', b'{"w":[1,2,3],"w":[1,2,3],"b":0}')
    model_bad("rank", '"w" has 2 dimensions, not 1', b'{"w":[[1,2,3]],"b":0}')
    model_bad("ragged", '"w" is not rectangular', b'{"w":[[1,2],[3]],"b":0}')
    model_bad("mixed", '"w" is not rectangular', b'{"w":[1,[2,3]],"b":0}')
    model_bad("empty-tensor", "byte 6: a number expected", b'{"w":[],"b":0}')
    model_bad("text", "byte 5: a number expected", b'{"w":"1,2,3","b":0}')
    model_bad("nan-word", "byte 6: a number expected", b'{"w":[NaN,2,3],"b":0}')
    model_bad(
        "too-large-number",
        "byte 10: a smaller number before this expected",
        b'{"w":[1e39,2,3],"b":0}',
    )
    model_bad("too-deep", '"w" has too many dimensions', b'{"w":[[[[[1]]]]],"b":0}')
    model_bad(
        "long-name",
        "more than 8 tensors, or a name of more than 31 bytes",
        b'{"' + b"w" * 32 + b'":1}',
    )
    model_bad("version-fraction", "byte 12: ',' expected", b'{"version":1]')
    model_bad(
        "nan",
        "byte 10: not finite",
        of_cbor(w=tag(85, np.array([0, np.nan, 1], "<f4").tobytes()), b=0.5),
    )
    model_bad("infinite-b", '"b" is not finite', of_cbor(w=w3, b=float("inf")))
    model_bad(
        "float64",
        '"w" is not of float32 (tag 85) or uint8 (tag 64)',
        of_cbor(w=tag(86, bytes(24)), b=0.5),
    )
    model_bad(
        "shape",
        '"W" is not as long as it should be',
        of_cbor(W=tag(40, [[3, 2], tag(85, bytes(20))])),
        module="softmax",
    )
    model_bad("byte-count", '"w" is not as long as it should be', of_cbor(w=tag(85, bytes(11))))
    model_bad(
        "too-large",
        "W: no room for 7700 x 4 bytes, # of 30720 are left",
        encode_document({"W": np.zeros((77, 100), np.float32)}, Format.CBOR),
        module="softmax",
    )
    model_bad(
        "biases",
        '"b" has 9 in dimension 0, the weights before it have 10',
        encode_document(
            {"W": np.zeros((64, 10), np.float32), "b": np.zeros(9, np.float32)}, Format.CBOR
        ),
        module="softmax",
    )
    hidden = layered(64, 8, 10)
    hidden["W2"] = hidden["W2"][:7]
    model_bad(
        "layers",
        '"W2" has 7 in dimension 0, the layer before has 8',
        encode_document(hidden, Format.CBOR),
        module="softmax",
    )

    def data_bad(name: str, stderr: str, content: bytes | None, module: str = "linear") -> None:
        extra = {"model": encode_document(layered(64, 10), Format.CBOR)}
        bad(
            f"data-{name}",
            stderr,
            module=module,
            data=content,
            **(extra if module == "softmax" else {}),
        )

    data_bad("missing", "data: neither /fl/data nor DATASET_DATA is there", None)
    data_bad(
        "cut-off",
        f"data: byte {len(data) - 10}: more bytes expected".replace(
            str(len(data) - 10), str(data.index(b"ay\xd8\x40") + 5)
        ),
        data[:-10],
    )
    data_bad("without-y", 'data: "y" is missing', b'{"x":[[1,2,3]]}')
    data_bad("extra-tensor", 'data: "z" is not expected', b'{"x":[[1,2,3]],"y":[1],"z":[1]}')
    data_bad("labels", 'data: 1 samples in "x" but 2 labels in "y"', b'{"x":[[1,2,3]],"y":[1,0]}')
    data_bad(
        "features",
        'model: "w" has 3 in dimension 0, the data\'s samples have 2',
        b'{"x":[[1,2]],"y":[1]}',
    )
    data_bad("label", "data: a label is 2, not an integer from 0 to 1", b'{"x":[[1,2,3]],"y":[2]}')
    data_bad(
        "label-fraction",
        "data: a label is 0.5, not an integer from 0 to 1",
        b'{"x":[[1,2,3]],"y":[0.5]}',
    )
    data_bad(
        "label-negative",
        "data: a label is -1, not an integer from 0 to 1",
        b'{"x":[[1,2,3]],"y":[-1]}',
    )
    data_bad(
        "label",
        "data: a label is 10, not an integer from 0 to 9",
        encode_document(
            {"x": np.zeros((1, 64), np.uint8), "y": np.array([10], np.uint8)}, Format.CBOR
        ),
        module="softmax",
    )
    data_bad(
        "infinite",
        "data: byte 16: not finite",
        of_cbor(
            x=tag(40, [[1, 3], tag(85, np.array([1, np.inf, 1], "<f4").tobytes())]),
            y=tag(64, b"\1"),
        ),
    )
    data_bad(
        "json-too-large",
        "data in JSON: no room for 6300 x 4 bytes, # of 24576 are left",
        encode_document({"x": np.full((2100, 3), 0.5), "y": np.zeros(2100, np.uint8)}, Format.JSON),
    )
    bad(
        "training-diverges",
        "epoch 1: the loss or the model is not finite: lr may be too large",
        env={"HYPERPARAMS": '{"lr":1000,"batch_size":1}'},
        data=b'{"x":[[1e38,1e38,1e38],[-1e38,1,1]],"y":[0,1]}',
    )
    return found


def _pattern(stderr: str) -> str:
    """A regular expression for one line."""
    return r"\d+".join(re.escape(part).replace("\\ ", " ") for part in stderr.split("#")) + "\n"


def main() -> None:
    runners = {name: WasmtimeRunner(image_of(name)) for name in NAMES}
    for folder in FOLDER.iterdir() if FOLDER.exists() else ():
        if folder.is_dir():
            shutil.rmtree(folder)
    for case in successes() + failures() + activity_cases(ENV):
        env = {name: value for name, value in case.env.items() if value}
        done = runners[case.module].run(env, case.files)
        if done.status != case.status or not re.fullmatch(case.stderr, done.stderr):
            print(f"{case.name}: status {done.status}, {done.stderr!r}\n  not {case.stderr!r}")
        Case(case.name, env, case.files, case.status, done.stdout, case.stderr).save(
            FOLDER / case.name
        )


if __name__ == "__main__":
    main()
