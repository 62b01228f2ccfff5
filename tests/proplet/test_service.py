"""A proplet from the outside: a real broker, real Wasm, and links that play the other services."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import cbor2
import pytest

from propeller_fl.link import LinkLimits, LinkLoop
from propeller_fl.wire import AckStatus, FlSpec, Topics

from ..support.brokers import RunningBroker
from ..support.wait import wait_until
from .conftest import HostMaker
from .modules import ENDLESS, client, read_file
from .other_side import MODEL, MODEL_URI, PATIENCE_S, OtherSide, update, writes

SIGNED = json.dumps(update(proplet_id="p-1"), indent=1).encode()


def test_it_introduces_itself_and_keeps_beating(other: OtherSide, host: HostMaker) -> None:
    host(namespace="lab")

    wait_until(lambda: len(other.alive()) >= 3, PATIENCE_S, "three heartbeats")
    assert set(other.alive()) == {"alive"}
    (discovery,) = other.discoveries()
    assert discovery.namespace == "lab"
    assert discovery.metadata["runtime"].startswith("wasmtime ")
    assert discovery.metadata["own_start_topic"] == "true"
    assert int(discovery.metadata["memory_bytes"]) > 0
    assert {"arch", "version"} < set(discovery.metadata)


def test_task_to_update_to_answer_to_result(other: OtherSide, host: HostMaker) -> None:
    host()
    other.run(writes(SIGNED))

    sent = other.wait_for_updates()[0]
    other.answer(sent)

    assert sent == SIGNED
    result = other.wait_for_result()
    assert json.loads(result.results)["answer"] == "accepted"
    assert json.loads(result.results)["num_samples"] == 7


def test_topics_have_the_prefix(broker: RunningBroker, host: HostMaker) -> None:
    topics = Topics("m/tenant/c/channel")
    with LinkLoop() as loop:
        other = OtherSide(loop, broker, topics)
        host(topics=topics)
        other.run(writes(SIGNED))
        other.answer(other.wait_for_updates()[0])

        assert other.wait_for_result().error == ""


def test_shared_start_topic_is_heard_and_other_proplets_tasks_are_not(
    other: OtherSide, host: HostMaker
) -> None:
    host()
    other.publish_model()
    url = other.publish_image(writes(SIGNED))

    other.give(other.task(url, "t-2", proplet_id="p-2"), shared=True)
    other.give(other.task(url), shared=True)

    other.answer(other.wait_for_updates()[0])
    assert other.wait_for_result().error == ""
    assert other.results("t-2") == []


# --- what the module is given


def test_module_reads_the_model_as_published(other: OtherSide, host: HostMaker) -> None:
    host()
    other.run(read_file("model"), round_id="")

    assert json.loads(other.wait_for_result().results)["version"] == 0


def test_next_task_reads_the_model_as_it_is_by_then(other: OtherSide, host: HostMaker) -> None:
    """Both are still at hand from the first task, and the model must not be the old one."""
    host()
    task = other.run(read_file("model"), round_id="")
    other.wait_for_result()

    topic = other.topics.absolute(MODEL_URI)
    other.publish(topic, b'{"w":[1.0,0.0,0.0],"b":0.0,"version":0}', retain=True)
    other.give(other.task(task.image_url, "t-2", round_id=""))
    assert json.loads(other.wait_for_result("t-2").results)["w"] == [1.0, 0.0, 0.0]

    other.publish(topic, b"", retain=True)  # nothing there: it is waited for again
    other.give(other.task(task.image_url, "t-3", round_id=""))
    other.give(other.task("/no/such/file", "t-4"))
    other.wait_for_result("t-4")
    assert other.results("t-3") == []
    other.publish_model()
    assert json.loads(other.wait_for_result("t-3").results)["w"] == [0.0, 0.0, 0.0]


def test_module_reads_its_own_data(other: OtherSide, host: HostMaker, tmp_path: Path) -> None:
    (tmp_path / "p-1.json").write_text('{"x":[[1]],"y":[0]}')
    host(data=str(tmp_path))
    other.run(read_file("data"), round_id="")

    assert other.wait_for_result().results == '{"x":[[1]],"y":[0]}'


def test_missing_data_is_the_tasks_error(other: OtherSide, host: HostMaker, tmp_path: Path) -> None:
    host(data=str(tmp_path))
    other.run(writes(SIGNED))

    assert "put p-1.json or p-1.cbor into" in other.wait_for_result().error


def test_model_that_comes_later_is_waited_for(other: OtherSide, host: HostMaker) -> None:
    host()
    other.give(other.task(other.publish_image(writes(SIGNED))))
    other.give(other.task("/no/such/file", "t-2"))
    other.wait_for_result("t-2")  # so the first one has been taken in

    assert other.updates() == []
    other.publish_model()
    assert other.wait_for_updates()[0] == SIGNED


def test_only_the_model_of_the_round_is_trained_on(
    other: OtherSide, host: HostMaker, caplog: pytest.LogCaptureFixture
) -> None:
    host()
    about = FlSpec("r-1", MODEL_URI, hashlib.sha256(MODEL).hexdigest())
    other.publish(other.topics.absolute(MODEL_URI), b'{"w":[9.0],"version":0}', retain=True)
    url = other.publish_image(writes(SIGNED))
    other.give(replace(other.task(url), fl=about))
    other.give(replace(other.task(url, "t-2", round_id="r-2"), fl=replace(about, round_id="r-2")))
    wait_until(
        lambda: caplog.text.count("not trained on") == 2, PATIENCE_S, "both have seen the wrong one"
    )
    other.close_round("r-2")

    assert other.wait_for_result("t-2").error.startswith("model: mismatch: ")
    assert other.updates() == []
    other.publish_model()
    assert other.wait_for_updates()[0] == SIGNED


def test_a_task_of_long_ago_is_refused(other: OtherSide, host: HostMaker) -> None:
    host()
    about = FlSpec("r-1", MODEL_URI, deadline=time.time() - 100_000)
    other.give(replace(other.task("/no/such/file"), fl=about))

    assert "the deadline of round r-1 passed" in other.wait_for_result().error


def test_image_that_comes_later_is_waited_for(other: OtherSide, host: HostMaker) -> None:
    host()
    image = writes(SIGNED)
    other.publish_model()
    url = other.publish_image(b"")  # a topic of another image, that is empty
    other.give(other.task(url, "t-2"))
    other.run(image)

    assert other.wait_for_updates()[0] == SIGNED
    assert other.results("t-2") == []


def test_image_in_a_file(other: OtherSide, host: HostMaker, tmp_path: Path) -> None:
    (tmp_path / "client.wasm").write_bytes(writes(SIGNED))
    host()
    other.publish_model()
    other.give(other.task((tmp_path / "client.wasm").as_uri()))

    assert other.wait_for_updates()[0] == SIGNED


def test_task_that_comes_later_finds_what_another_waits_with(
    other: OtherSide, host: HostMaker
) -> None:
    host("p-1", "p-2")
    url = other.publish_image(writes(update()))
    other.give(other.task(url))  # has the image, and waits for the model
    other.give(other.task("/no/such/file", "t-3"))
    other.wait_for_result("t-3")

    other.give(other.task(url, "t-2", proplet_id="p-2"))
    other.publish_model()

    assert other.wait_for_updates()
    assert other.wait_for_updates(proplet_id="p-2")


# --- the update


def test_update_without_a_sender_is_given_one(other: OtherSide, host: HostMaker) -> None:
    host()
    other.run(writes(b'{"round_id": "r-1", "num_samples": 1, "update": {"w": [0.10]}}'))

    assert other.wait_for_updates()[0] == (
        b'{"proplet_id":"p-1","round_id": "r-1", "num_samples": 1, "update": {"w": [0.10]}}'
    )


def test_update_in_cbor(other: OtherSide, host: HostMaker) -> None:
    host()
    document = update()
    other.run(writes(cbor2.dumps(document)))

    assert cbor2.loads(other.wait_for_updates()[0]) == {"proplet_id": "p-1", **document}


def test_update_is_sent_until_it_is_answered(other: OtherSide, host: HostMaker) -> None:
    host()
    other.run(writes(SIGNED))

    assert set(other.wait_for_updates(3)) == {SIGNED}
    other.answer(b"other bytes")
    other.wait_for_updates(len(other.updates()) + 1)
    other.answer(SIGNED)
    assert json.loads(other.wait_for_result().results)["answer"] == "accepted"


def test_update_is_sent_until_the_round_is_closed(other: OtherSide, host: HostMaker) -> None:
    host()
    other.run(writes(SIGNED))
    other.wait_for_updates(2)

    other.close_round()

    assert json.loads(other.wait_for_result().results)["answer"] == "round_closed"


def test_refused_update_is_an_error(other: OtherSide, host: HostMaker) -> None:
    host()
    other.run(writes(SIGNED))

    other.answer(other.wait_for_updates()[0], AckStatus.REFUSED, reason="wrong_shape")

    assert "refused the update: wrong_shape" in other.wait_for_result().error


def test_update_is_sent_again_after_the_broker_was_away(
    broker: RunningBroker, other: OtherSide, host: HostMaker
) -> None:
    host(resend_after_s=3600.0)
    other.run(writes(SIGNED))
    other.wait_for_updates()

    broker.kill()
    broker.start()

    wait_until(lambda: len(other.discoveries()) >= 2, PATIENCE_S, "it introduces itself again")
    other.wait_for_updates(2)
    other.answer(SIGNED)
    assert other.wait_for_result().error == ""


# --- tasks that cannot go well


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (client("unreachable"), "trapped"),
        (ENDLESS, "did not end within 0.3 s"),
        (client("(call $proc_exit (i32.const 9))"), "status 9"),
        (client(""), "wrote no update"),
        (writes(b"hello"), "is no update"),
        (writes(update("r-2")), "has round_id 'r-2'"),
        (writes(update(proplet_id="p-2")), "has proplet_id 'p-2'"),
        (writes(2000 * b"x"), "more than 1000 bytes"),
        (b"no wasm", "Wasm"),
    ],
    ids=["trap", "endless", "exit", "silent", "text", "round", "proplet", "output", "no wasm"],
)
def test_failed_run_is_an_error_and_the_proplet_goes_on(
    other: OtherSide, host: HostMaker, image: bytes, words: str
) -> None:
    host(wall_time_s=0.3, output_bytes=1000)
    other.run(image)

    error = other.wait_for_result().error
    assert words in error
    assert "\n" not in error
    other.run(writes(SIGNED), "t-2")
    assert other.wait_for_updates()[0] == SIGNED


def test_image_with_the_wrong_digest_is_not_run(other: OtherSide, host: HostMaker) -> None:
    host()
    other.publish_model()
    url = "fl/images/" + 64 * "0"
    other.publish(other.topics.absolute(url), writes(SIGNED), retain=True)
    other.give(other.task(url))

    assert "has the digest" in other.wait_for_result().error


def test_update_too_large_for_the_link(other: OtherSide, host: HostMaker) -> None:
    document = json.dumps(update(note=1000 * "x")).encode()
    size_bytes = len(document)  # and that without a sender
    host(output_bytes=size_bytes, limits=LinkLimits(max_payload_bytes=size_bytes))
    other.run(writes(document))

    assert f"over the limit of {size_bytes} bytes" in other.wait_for_result().error


def test_bad_messages_are_passed_over(other: OtherSide, host: HostMaker) -> None:
    host()
    topics = other.topics
    for topic in (topics.task_start, topics.task_stop, topics.ack("r-1", "p-1")):
        other.publish(topic, b"{")
    other.run(writes(SIGNED))
    other.wait_for_updates()
    other.publish(topics.complete("r-1"), b"{", retain=True)
    other.answer(SIGNED)

    assert other.wait_for_result().error == ""


# --- the same again, and no more


def test_task_given_again_is_not_run_again(other: OtherSide, host: HostMaker) -> None:
    host()
    task = other.run(writes(SIGNED))
    other.answer(other.wait_for_updates()[0])
    first = other.wait_for_result()
    sent = len(other.updates())

    other.give(task)

    assert other.wait_for_result(count=2) == first
    assert len(other.updates()) == sent


def test_task_under_way_given_again_runs_once(other: OtherSide, host: HostMaker) -> None:
    host(wall_time_s=0.5)
    task = other.run(ENDLESS)
    other.give(task)
    other.give(other.task("/no/such/file", "t-2"))

    other.wait_for_result("t-2")
    other.wait_for_result()
    assert len(other.results()) == 1


def test_waiting_task_can_be_stopped(other: OtherSide, host: HostMaker) -> None:
    host()
    other.give(other.task(other.publish_image(writes(SIGNED))))

    other.stop("t-1")

    assert other.wait_for_result().error == "stopped by the manager"


def test_running_task_can_be_stopped(other: OtherSide, host: HostMaker) -> None:
    host(wall_time_s=1.0)
    other.run(ENDLESS)
    other.run(ENDLESS, "t-2", model_uri="")

    other.stop("t-1")

    assert other.wait_for_result().error == "stopped by the manager"
    assert "did not end" in other.wait_for_result("t-2").error
    assert len(other.results()) == 1


def test_task_of_a_round_that_is_closed_is_not_run(other: OtherSide, host: HostMaker) -> None:
    host()
    other.close_round()
    other.give(other.task(other.publish_image(writes(SIGNED))))

    assert "round r-1 closed (complete)" in other.wait_for_result().error


def test_compiled_modules_are_kept_between_processes(
    other: OtherSide, host: HostMaker, tmp_path: Path
) -> None:
    host(cache_dir=tmp_path / "cache")
    other.run(writes(SIGNED))
    other.wait_for_updates()

    assert list((tmp_path / "cache").iterdir())
