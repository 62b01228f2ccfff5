"""On a proplet's own topic, which a broker keeps for it, nobody speaks as another."""

from __future__ import annotations

import pytest

from propeller_fl.wire import Alive, Discovery, Liveness, TaskResult

from .conftest import TOPICS, Stage, round_start


def test_who_speaks_on_its_own_topics_is_believed_of_itself_alone(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.start_manager()
    peer = stage.peer
    own = {"own_start_topic": "true"}
    for name in ("p.1", "p-2"):
        peer.say(TOPICS.proplet_create_of(name), Discovery(name, "", own).encode())
        stage.until_alive(name, True)

    peer.say(TOPICS.proplet_create_of("p.1"), Discovery("ghost", "", own).encode())
    peer.say(TOPICS.proplet_alive_of("p.1"), Alive("p-2", Liveness.OFFLINE).encode())
    peer.say(TOPICS.proplet_alive_of("p.1"), Alive("p.1", Liveness.OFFLINE).encode())
    stage.until_alive("p.1", False)
    assert {p.proplet_id: p.alive for p in stage.fleet()} == {"p.1": False, "p-2": True}
    assert "'p-2' in the message and 'p.1' in its topic" in caplog.text

    peer.say(TOPICS.proplet_alive_of("p.1"), Alive("p.1").encode())
    stage.until_alive("p.1", True)
    stage.open_round(round_start(participants=("p.1", "p-2")))
    stage.tasks(1, TOPICS.task_start_of("p.1"))
    stage.tasks(1, TOPICS.task_start_of("p-2"))
    stage.until_saved("r-1", **{"p.1": "sent", "p-2": "sent"})
    # one that names another, and one that names nobody but another's task
    for result in (
        TaskResult("r-1.p-2", "p-2", results="x"),
        TaskResult("r-1.p-2", "", results="x"),
    ):
        peer.say(TOPICS.proplet_results_of("p.1"), result.encode())
    peer.say(TOPICS.proplet_results_of("p.1"), TaskResult("r-1.p.1", "p.1", results="x").encode())
    stage.until_saved("r-1", **{"p.1": "done", "p-2": "sent"})
