"""Two aggregators with three devices each and a proplet beside them: as if all seven were flat."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from propeller_fl.learn import WeightedMean
from propeller_fl.wire import Tensors, Update, flatten, shapes_of
from tests.aggregator.farm import BARNS, DIRECT, SAMPLES, Farm, farm, update_of
from tests.support.brokers import freeze
from tests.support.wait import wait_until

ULP = 2.0**-24  # of float32: what rounding to it changes, by the number's magnitude


@pytest.fixture(scope="module")
def running_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with farm(tmp_path_factory.mktemp("farm")) as running:
        yield running


@pytest.mark.parametrize("update_format", ["json", "int8-delta"])
def test_the_model_is_that_of_the_flat_fleet_but_for_float32(
    running_farm: Farm, update_format: str
) -> None:
    round_id = f"r-{update_format}"
    running_farm.start_round(round_id, [*BARNS, DIRECT], update_format=update_format)
    end = running_farm.end_of(round_id)
    assert (end["status"], end["num_updates"]) == ("complete", 3)
    assert end["total_samples"] == sum(SAMPLES.values())

    base = running_farm.model("fl/models/global_model_v0")
    updates = {DIRECT: update_of(running_farm.peer, round_id, DIRECT)}
    for name, ids in BARNS.items():
        peer = running_farm.barns[name].peer
        updates |= {one: update_of(peer, round_id, one) for one in ids}
    assert {one: update.num_samples for one, update in updates.items()} == SAMPLES
    above = {name: update_of(running_farm.peer, round_id, name) for name in BARNS}
    for name in BARNS:
        assert above[name].num_samples == running_farm.barns[name].samples

    flat, made = mean(updates, base), vector(running_farm.model(end["model_topic"]), base)
    assert np.abs(flat - vector(base, base)).max() > 1e-3  # something was learned
    sent = {name: np.abs(vector(update.on(base), base)) for name, update in above.items()}
    rounded = sum(above[name].num_samples * sent[name].astype(np.float64) for name in BARNS)
    bound = ULP * (rounded / end["total_samples"] + np.abs(flat) + np.abs(made)) * (1 + 1e-6)
    assert (np.abs(made.astype(np.float64) - flat) <= bound + 2.0**-149).all()

    for metric in ("loss", "accuracy"):
        told = sum(SAMPLES[one] * update.metrics[metric] for one, update in updates.items())
        assert end["metrics"][metric] == pytest.approx(told / end["total_samples"], rel=1e-12)


def mean(updates: dict[str, Update], base: Tensors) -> np.ndarray:
    """Of all devices, as the coordinator would have made it of theirs."""
    total = WeightedMean(vector(base, base).size)
    for _, update in sorted(updates.items()):
        total.add(vector(update.on(base), base), update.num_samples)
    return total.result()


def vector(tensors: Tensors, base: Tensors) -> np.ndarray:
    return flatten(tensors, shapes_of(base))


def test_an_evaluation_is_the_mean_of_all_devices(running_farm: Farm) -> None:
    running_farm.start_round("r-eval", [*BARNS, DIRECT], mode="evaluate")
    end = running_farm.end_of("r-eval")
    assert (end["status"], end["num_updates"]) == ("complete", 3)
    assert end["total_samples"] == sum(
        update_of(running_farm.barns[name].peer, "r-eval", one).num_samples
        for name, ids in BARNS.items()
        for one in ids
    ) + update_of(running_farm.peer, "r-eval", DIRECT).num_samples  # fmt: skip
    assert end["metrics"]["loss"] == pytest.approx(np.log(10), rel=1e-6)  # of a model of zeros


def test_a_strategy_that_needs_each_update_is_refused(running_farm: Farm) -> None:
    running_farm.start_round("r-median", ["east", "nobody"], strategy="median")
    report = running_farm.peer.wait_for(
        "fl/rounds/r-median/launch", lambda report: report["failed"], timeout_s=60
    )
    assert "strategy median needs the update of each device" in report["failed"]["east"]
    assert running_farm.peer.heard("fl/rounds/r-median/updates/east") == []


def test_killed_while_its_devices_train_it_goes_on_with_their_round(running_farm: Farm) -> None:
    west = running_farm.barns["west"]
    freeze(west.devices.pid)
    try:
        running_farm.start_round("r-killed", ["west", DIRECT])
        west.peer.wait_for("fl/rounds/r-killed/launch", lambda told: told["launched"], timeout_s=60)
        restart(running_farm)
    finally:
        os.kill(west.devices.pid, signal.SIGCONT)
    end = running_farm.end_of("r-killed")
    assert (end["status"], end["num_updates"]) == ("complete", 2)
    assert end["total_samples"] == west.samples + SAMPLES[DIRECT]
    assert update_of(running_farm.peer, "r-killed", "west").num_samples == west.samples


def test_killed_after_its_update_it_answers_with_the_same_bytes(running_farm: Farm) -> None:
    peer, topic = running_farm.peer, "fl/rounds/r-again/updates/west"
    running_farm.start_round("r-again", ["west", "later"])
    accepted = peer.wait_for("fl/rounds/r-again/acks/west", timeout_s=60)
    assert accepted["status"] == "accepted"
    results = "control/proplet/results"
    peer.wait_for(results, lambda result: result["task_id"] == "r-again.west", timeout_s=60)
    before = len(peer.heard(topic))
    restart(running_farm)
    [task] = {
        payload
        for payload in peer.heard("control/manager/start/west")
        if json.loads(payload)["id"] == "r-again.west"
    }
    peer.publish("control/manager/start/west", task)
    wait_until(lambda: len(peer.heard(topic)) > before, 60, "the task is answered again")
    own = update_of(peer, "r-again", "west")  # which says that there was no other
    later = json.loads(peer.heard("fl/rounds/r-again/updates/west")[0])
    peer.publish(
        "fl/rounds/r-again/updates/later", later | {"proplet_id": "later", "num_samples": 5}
    )
    end = running_farm.end_of("r-again")
    assert (end["num_updates"], end["refused"]) == (2, {})
    assert end["total_samples"] == own.num_samples + 5


def restart(running_farm: Farm) -> None:
    """SIGKILL, and start it again."""
    aggregator = running_farm.barns["west"].aggregator
    aggregator.stop(signal.SIGKILL)
    aggregator.forget_log()
    aggregator.start()
    aggregator.wait_for("ready: aggregator west")
