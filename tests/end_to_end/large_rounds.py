"""Rounds that train a table of linear models which travels in parts, and what must come of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from propeller_fl.client import build_module
from propeller_fl.learn import WeightedMean
from propeller_fl.proplet import Invocation, Limits, WasmtimeRuntime
from propeller_fl.store import write_large
from propeller_fl.wire import Format, Model, Update, encode_document
from tests.support.peers import Peer

PROPLETS: Final = ("proplet-1", "proplet-2", "proplet-3")
INPUTS: Final = 64
PARAMS: Final = '{"epochs":2,"lr":0.05}'
EXAMPLE: Final = Path(__file__).resolve().parents[2] / "examples" / "row_models"


@functools.cache
def image_at(directory: Path) -> Path:
    """The example, built by the client builder."""
    return build_module(EXAMPLE, directory / "row_models.wasm").path


def make_model(path: Path, mib: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(3).standard_normal((mib * 4096, INPUTS), np.float32)
    write_large(Model({"rows": rows}), path)
    return rows


def make_data(directory: Path, rows: int) -> dict[str, bytes]:
    """Some samples for each proplet, on rows all over the table."""
    directory.mkdir(exist_ok=True)
    found = {}
    for number, proplet in enumerate(PROPLETS):
        random = np.random.default_rng(number)
        count = 20 + 10 * number
        x = random.standard_normal((count, 1 + INPUTS), np.float32) / 8
        x[:, 0] = random.integers(0, rows, count)
        y = random.standard_normal(count, np.float32)
        found[proplet] = encode_document({"x": x, "y": y}, Format.CBOR)
        (directory / f"{proplet}.cbor").write_bytes(found[proplet])
    return found


def expected(
    image: Path, model: Path, data: Mapping[str, bytes], round_id: str
) -> tuple[NDArray[np.float32], float]:
    """The next model and its loss, by the way that models take which fit into a message."""
    mean: WeightedMean | None = None
    losses, samples = 0.0, 0
    with WasmtimeRuntime() as runtime:
        module = runtime.compile(image.read_bytes())
        for proplet in PROPLETS:
            env = {
                "ROUND_ID": round_id,
                "PROPLET_ID": proplet,
                "MODEL_URI": "fl/models/global_model_v0",
                "HYPERPARAMS": PARAMS,
            }
            files: dict[str, bytes | Path] = {"model": model, "data": data[proplet]}
            limits = Limits(output_bytes=model.stat().st_size + 1024 * 1024)
            ended = runtime.run(module, Invocation(env, files), limits)
            update = Update.decode(ended.stdout)
            vector = update.tensors["rows"].reshape(-1)
            mean = mean or WeightedMean(vector.size)
            mean.add(vector, update.num_samples)
            losses += update.metrics["loss"] * update.num_samples
            samples += update.num_samples
    assert mean is not None
    return mean.result(), losses / samples


def numbers_in(path: Path) -> NDArray[np.float32]:
    """The table in a file, as one vector."""
    found: NDArray[np.float32] = load_file(path)["rows"].reshape(-1)
    return found


def begin(peer: Peer, image: Path, round_id: str = "r-1", version: int = 0, **changes: Any) -> None:
    start = {
        "round_id": round_id,
        "model_uri": f"fl/models/global_model_v{version}",
        "task_wasm_image": str(image),
        "participants": PROPLETS,
        "hyperparams": {"epochs": 2, "lr": 0.05},
        "k_of_n": len(PROPLETS),
        "timeout_s": 600,
    } | changes
    peer.subscribe(f"fl/rounds/{round_id}/+", f"fl/models/global_model_v{version + 1}")
    peer.subscribe(f"fl/rounds/{round_id}/acks/+")
    peer.publish("fl/rounds/start", start)
