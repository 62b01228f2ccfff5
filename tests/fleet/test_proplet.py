"""The simulated proplet: the real one's machine on a slow device and a bad network."""

from __future__ import annotations

import hashlib

from propeller_fl.fleet import Fate, Lose, SimulatedProplet, Train, is_lost
from propeller_fl.proplet import Output, events
from propeller_fl.wire import AckStatus, TaskStart, UpdateAck

IMAGE = b"\0asm"
MODEL = b'{"w":[1.0],"version":0}'
URL = f"fl/images/{hashlib.sha256(IMAGE).hexdigest()}"
URI = "fl/models/global_model_v0"
ENV = {"ROUND_ID": "r-1", "MODEL_URI": URI, "HYPERPARAMS": "{}"}
TASK = TaskStart(id="r-1.p-1", name="r-1", proplet_id="p-1", image_url=URL, env=ENV)
UPDATE = Output(b"{}", 5)
ACCEPTED = UpdateAck("r-1", "p-1", AckStatus.ACCEPTED, UPDATE.sha256)


def given(proplet: SimulatedProplet) -> list[object]:
    """The effects of a task with all it needs."""
    found: list[object] = []
    for event in (
        events.Given(TASK),
        events.ImageArrived(URL, IMAGE),
        events.ModelArrived(URI, MODEL),
    ):
        found += proplet.handle(event)
    return found


def test_training_takes_the_time_that_the_round_has_in_store() -> None:
    proplet = SimulatedProplet("p-1", 5.0, loss=0.0, seed=0)
    proplet.meet(Fate(latency_s=1.5))
    (train,) = given(proplet)
    assert isinstance(train, Train)
    assert train.after_s == 1.5
    assert train.run.model == MODEL

    (sent,) = proplet.handle(events.Ran(TASK.id, UPDATE))
    assert sent == events.SendUpdate(TASK.id, "r-1", UPDATE.payload)
    (report,) = proplet.handle(events.Answered(ACCEPTED))
    assert isinstance(report, events.Report)
    assert not report.result.error
    assert not proplet.wants


def test_who_drops_out_is_silent_until_the_round_is_over() -> None:
    proplet = SimulatedProplet("p-1", 5.0, loss=0.0, seed=0)
    proplet.meet(Fate(drops=True))
    assert given(proplet) == []
    assert given(proplet) == []  # asked again
    assert events.Want("round", "r-1") in proplet.wants
    assert not any(
        isinstance(effect, events.Report)
        for effect in proplet.handle(events.RoundClosed("r-1", "complete"))
    )
    assert not proplet.wants


def test_a_lost_update_and_a_lost_answer_are_made_up_for_by_sending_again() -> None:
    loss = 0.5
    fates = [[is_lost(seed, "p-1", number, loss) for number in (1, 2, 3, 4)] for seed in range(99)]
    seed = fates.index([True, False, True, False])  # update, update, answer, update
    proplet = SimulatedProplet("p-1", 5.0, loss=loss, seed=seed)
    given(proplet)

    assert proplet.handle(events.Ran(TASK.id, UPDATE)) == [Lose(TASK.id)]
    (wait,) = proplet.handle(events.Taken(TASK.id, 0.5))
    assert isinstance(wait, events.Wait)
    (sent,) = proplet.handle(events.Waited(TASK.id, wait.sends))
    assert isinstance(sent, events.SendUpdate)

    assert proplet.handle(events.Answered(ACCEPTED)) == []  # lost
    (wait,) = proplet.handle(events.Taken(TASK.id, 0.5))
    assert isinstance(wait, events.Wait)
    (sent,) = proplet.handle(events.Waited(TASK.id, wait.sends))
    assert isinstance(sent, events.SendUpdate)
    assert (proplet.lost_updates, proplet.lost_answers) == (1, 1)
