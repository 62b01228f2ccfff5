"""What a task from upstream comes to: refused, a round of the devices, or one update."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from propeller_fl.aggregator import Errand, errand_of, local_start, update_of
from propeller_fl.config import AggregatorConfig
from propeller_fl.errors import RequestError, StrategyError
from propeller_fl.learn import is_of_mean, strategy_names
from propeller_fl.proplet import Content, events
from propeller_fl.wire import (
    FlSpec,
    Format,
    Mode,
    Outcome,
    RoundComplete,
    RoundStart,
    TaskStart,
    Update,
    UpdateFormat,
    format_of,
)

NOW_S = 1_800_000_000.0
URI = "fl/models/global_model_v7"
OF_MEAN = {"fedavg", "fedprox", "fedavgm", "fedadagrad", "fedadam", "fedyogi"}


def spec(**changes: Any) -> FlSpec:
    about = FlSpec("r-1", URI, "0" * 64, "json", NOW_S + 60, {"lr": 0.5, "mu": 0.01}, "fedavg")
    return replace(about, **changes)


def run(about: FlSpec | None, *, mode: str = "train", model: Any = b"{}") -> events.Run:
    env = {"ROUND_ID": "r-1", "MODEL_URI": URI, "FL_MODE": mode}
    return events.Run(TaskStart("r-1.agg", "r-1", "agg", "fl/images/x", env, fl=about), b"m", model)


def errand(mode: str = "train", **changes: Any) -> Errand:
    return errand_of(run(spec(**changes), mode=mode))


def start(
    devices: int = 3, used: tuple[str, ...] = (), now_s: float | None = NOW_S, **settings: Any
) -> RoundStart:
    config = AggregatorConfig(**{"reserve_s": 5.0, "timeout_s": 44.0} | settings)
    names = [f"dev-{number}" for number in range(devices)]
    return local_start(
        errand(format="int8-delta"), names, config,
        number=130, is_used=used.__contains__, image=Path("/images/m.wasm"), now_s=now_s,
    )  # fmt: skip


def complete(**changes: Any) -> RoundComplete:
    end = RoundComplete(
        "r-1", Outcome.COMPLETE, 1, "fl/models/global_model_v1", 3, 120, "then",
        metrics={"loss": 0.25},
    )  # fmt: skip
    return replace(end, **changes)


@pytest.mark.parametrize("name", strategy_names())
def test_only_strategies_of_the_mean_are_done_in_common(name: str) -> None:
    assert is_of_mean(name) == (name in OF_MEAN)
    if name in OF_MEAN:
        assert errand(strategy=name).about.strategy == name
    else:
        with pytest.raises(RequestError, match=f"strategy {name} needs the update of each device"):
            errand(strategy=name)


def test_a_strategy_that_nobody_knows_here_is_refused() -> None:
    with pytest.raises(StrategyError, match="there is no strategy 'ours'"):
        errand(strategy="ours")


def test_a_manager_that_does_not_say_the_strategy_is_refused() -> None:
    with pytest.raises(RequestError, match="does not say by which strategy"):
        errand(strategy="")


def test_a_task_of_no_round_is_refused() -> None:
    with pytest.raises(RequestError, match="of no round"):
        errand_of(run(None))


def test_a_model_in_parts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"x")
    with pytest.raises(RequestError, match="a model in parts"):
        errand_of(run(spec(), model=Content(tmp_path / "model")))


def test_the_round_of_the_devices_is_the_one_upstream_in_all_that_they_see() -> None:
    local = start()
    assert local.round_id == "r-1"  # a module may draw its random numbers from it
    assert local.hyperparams == {"lr": 0.5, "mu": 0.01}
    assert local.update_format is UpdateFormat.INT8_DELTA
    assert local.mode is Mode.TRAIN
    assert local.strategy == "fedavg"
    assert local.participants == ("dev-0", "dev-1", "dev-2")
    assert (local.k_of_n, local.min_updates) == (3, 1)
    assert local.model_uri == "fl/models/upstream-2"
    assert RoundStart.decode(local.encode()) == local


def test_an_id_that_another_task_has_had_is_not_used_again() -> None:
    local = start(used=("r-1",))
    assert local.round_id == f"r-1-{errand(format='int8-delta').sha256[:16]}"


def test_the_wait_for_devices_ends_before_the_round_upstream() -> None:
    assert start().timeout_s == 55.0
    assert start(reserve_s=50.0).timeout_s == 30.0  # at most half of it is kept back
    assert start(now_s=None).timeout_s == 44.0
    assert start(now_s=NOW_S + 61).timeout_s == 44.0  # whose clock is right, upstream must say
    assert start(now_s=NOW_S - 200_000).timeout_s == 44.0


@pytest.mark.parametrize(
    ("devices", "fraction", "least", "k"),
    [(3, 1.0, 1, 3), (10, 0.7, 1, 7), (10, 0.71, 1, 8), (10, 0.1, 4, 4), (4, 0.5, 4, 4)],
)
def test_how_many_devices_end_the_wait(devices: int, fraction: float, least: int, k: int) -> None:
    local = start(devices, k_fraction=fraction, min_local=least)
    assert (local.k_of_n, local.min_updates) == (k, least)


def test_fewer_devices_than_must_answer_are_not_asked() -> None:
    with pytest.raises(RequestError, match="1 devices are alive here, and at least 2 must answer"):
        start(1, min_local=2)


def test_a_task_is_the_same_only_with_the_same_round_model_module_and_settings() -> None:
    first = errand()
    assert errand().sha256 == first.sha256
    others = [
        errand(round_id="r-2"), errand(hyperparams={"lr": 0.1}), errand(strategy="fedprox"),
        errand(deadline=NOW_S + 61), errand(mode="evaluate"),
        errand_of(run(spec(), model=b'{"w":[1]}')),
        errand_of(replace(run(spec()), image=b"another")),
    ]  # fmt: skip
    digests = {one.sha256 for one in (first, *others)}
    assert len(digests) == 1 + len(others)


@pytest.mark.parametrize(
    ("asked", "written"),
    [("json", Format.JSON), ("cbor", Format.CBOR), ("float16", Format.CBOR),
     ("int8-delta", Format.CBOR), ("tomorrow's", Format.CBOR)],
)  # fmt: skip
def test_the_mean_goes_upstream_without_a_second_rounding(asked: str, written: Format) -> None:
    mean = {
        "w": np.array([[0.1, -1e-30], [3e38, 1 / 3]], np.float32),
        "b": np.array([2**-149], np.float32),
    }
    output = update_of(errand(format=asked), "agg", complete(), mean)
    assert format_of(output.payload) is written
    assert output == update_of(errand(format=asked), "agg", complete(), mean)  # to the byte
    update = Update.decode(output.payload)
    assert (update.round_id, update.proplet_id, update.base_model_uri) == ("r-1", "agg", URI)
    assert (update.num_samples, output.num_samples) == (120, 120)
    assert update.metrics == {"loss": 0.25}
    for name, array in mean.items():
        assert update.tensors[name].tobytes() == array.tobytes()


def test_an_evaluation_has_metrics_alone() -> None:
    update = Update.decode(update_of(errand("evaluate"), "agg", complete(), {}).payload)
    assert (update.tensors, update.metrics, update.num_samples) == ({}, {"loss": 0.25}, 120)


def test_a_round_without_samples_has_no_weight() -> None:
    with pytest.raises(RequestError, match="without a sample"):
        update_of(errand(), "agg", complete(num_updates=0, total_samples=0), {})
