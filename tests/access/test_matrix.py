"""Every role on every topic, both ways, on both brokers: exactly these cells succeed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.access.brokers import ROLES, Guarded, guarded
from tests.access.sessions import PATIENCE_S, Session, say_once, session, vanish
from tests.support.wait import wait_until

PREFIX = "m/tenant.1/c/channel"  # a dot is a separator for one of the brokers
PROPLETS = ["p.1", "p-2"]  # so it is in an id
DIGEST = "0" * 64

# topic | who may write there | who may read there
MATRIX = f"""
fl/rounds/start | STARTERS | manager coordinator gateway dashboard
fl/rounds/r.1/stop | operator dashboard | coordinator
fl/rounds/r.1/updates/p.1 | p.1 gateway | manager
fl/rounds/r.1/updates/p-2 | p-2 gateway | manager
fml/updates | manager | coordinator
fl/rounds/r.1/acks/p.1 | coordinator manager | p.1 gateway dashboard
fl/rounds/r.1/acks/p-2 | coordinator manager | p-2 gateway dashboard
fl/rounds/r.1/status | coordinator | WATCHERS
fl/rounds/r.1/complete | coordinator | WATCHERS p.1 p-2
fl/rounds/r.1/launch | manager | coordinator operator observer gateway dashboard aggregator
fl/experiments/start | operator dashboard | experiments
fl/experiments/x.1/command | operator dashboard | experiments
fl/experiments/x.1/status | experiments | operator observer gateway dashboard aggregator
fl/models/publish | coordinator publisher gateway | MODELS
fl/models/global_model_v7 | model-server aggregator | MODELS
fl/images/{DIGEST} | manager | p.1 p-2
fl/parts/{DIGEST} | PARTS | PARTS operator
fl/parts/wanted | PARTS operator | PARTS operator
control/proplet/create/p.1 | p.1 | SPOKEN
control/proplet/alive/p.1 | p.1 | SPOKEN
control/proplet/results/p.1 | p.1 | manager gateway dashboard
control/proplet/create/p-2 | p-2 | SPOKEN
control/proplet/alive/p-2 | p-2 | SPOKEN
control/proplet/results/p-2 | p-2 | manager gateway dashboard
control/proplet/create | SHARED | SPOKEN
control/proplet/alive | SHARED | SPOKEN
control/proplet/results | SHARED | manager gateway dashboard
control/manager/start/p.1 | manager gateway | p.1
control/manager/start/p-2 | manager gateway | p-2
control/manager/stop/p.1 | manager gateway aggregator | p.1
control/manager/stop/p-2 | manager gateway aggregator | p-2
control/manager/start | SHARED-TASKS | SHARED
control/manager/stop | SHARED-TASKS | SHARED
registry/proplet | SHARED | manager
registry/server | SHARED-MANAGER | SHARED
fl/doctor/1234 | operator | operator
control | |
fl/rounds/r.1/updates | |
fl/rounds/r.1/updates/p.1/more | |
control/proplet/alive/p/1 | |
control/proplet/alive/p | | SPOKEN
"""
NOBODY = [  # under no prefix, and what brokers keep for themselves
    "fl/rounds/start",
    "fl/rounds/r.1/updates/p.1",
    "control/proplet/alive/p.1",
    "m/tenant/1/c/channel/fl/rounds/start",
    "m/other/c/channel/fl/models/global_model_v7",
    "anything",
]
RESERVED = [  # not even for us: nats-server's inner subjects
    "$MQTT/sub/x",
    "$MQTT/msgs/x",
    "$JS/API/STREAM/LIST",
    "$SYS/REQ/SERVER/PING",
]
WILDCARDS = [
    "#",
    "+/#",
    "+/+/+/+/#",
    f"{PREFIX}/#",
    f"{PREFIX}/+",
    f"{PREFIX}/fl/#",
    f"{PREFIX}/fl/rounds/#",
    f"{PREFIX}/fl/rounds/+/+",
    f"{PREFIX}/fl/rounds/+/updates/+",
    f"{PREFIX}/fl/rounds/+/acks/+",
    f"{PREFIX}/fl/models/#",
    f"{PREFIX}/control/#",
    f"{PREFIX}/control/manager/start/+",
    f"{PREFIX}/control/manager/stop/#",
    "$MQTT/#",
    "$MQTT/sub/#",
    "$JS/#",
    "$SYS/#",
]


def expected(kind: str, shared: bool) -> dict[str, tuple[set[str], set[str]]]:
    """Writers and readers by topic."""
    groups = {
        "MODELS": "coordinator model-server operator publisher observer gateway dashboard "
        "aggregator p.1 p-2",
        "STARTERS": "operator gateway experiments dashboard aggregator",
        "WATCHERS": "manager operator observer gateway experiments dashboard aggregator",
        "SPOKEN": "manager gateway experiments dashboard aggregator",
        "PARTS": "coordinator model-server publisher p.1 p-2",
        "SHARED": "p.1 p-2" if shared else "",
        "SHARED-MANAGER": "manager" if shared else "",
        "SHARED-TASKS": "manager gateway" if shared else "",
    }
    cells: dict[str, tuple[set[str], set[str]]] = {}
    for line in MATRIX.strip().splitlines():
        topic, *sides = (part.strip() for part in line.split("|"))
        writers, readers = (
            {name for word in side.split() for name in groups.get(word, word).split()}
            for side in sides
        )
        cells[f"{PREFIX}/{topic}"] = writers, readers
    if kind == "mosquitto":  # the one thing its access rules cannot say (docs/threat-model.md)
        cells[f"{PREFIX}/fl/models/publish"][0].update(("model-server", "aggregator"))
    return cells | {topic: (set(), set()) for topic in NOBODY + RESERVED}


@pytest.fixture(scope="module", params=["nats", "nats-shared", "mosquitto"])
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Guarded, bool]]:
    kind, _, shared = request.param.partition("-")
    directory = tmp_path_factory.mktemp("deployment")
    with guarded(kind, directory, proplets=PROPLETS, prefix=PREFIX, shared=bool(shared)) as running:
        yield running, bool(shared)


def test_who_writes_and_who_hears(broker: tuple[Guarded, bool]) -> None:
    running, shared = broker
    cells = expected(running.kind, shared)
    everybody = ROLES + PROPLETS
    with ExitStack() as stack:
        watcher = stack.enter_context(session(running.watcher, "watcher"))
        assert watcher.subscribe(["#"], qos=1) == [True]
        sessions: dict[str, Session] = {}
        for name in everybody:
            address = running.address(name)
            sessions[name] = stack.enter_context(session(address, f"{name.replace('.', '~')}-w"))

        for name, one in sessions.items():
            messages = [(topic, f"{name} was here") for topic in cells]
            if running.kind == "nats":
                one.publish(messages)
                assert not one.down.is_set()
                continue
            address = running.address(name)
            for topic, text in messages:  # mosquitto hangs up on whoever writes what it may not
                say_once(address, topic, text)
        watcher.publish([("end", "")])
        wait_until(lambda: ("end", "") in watcher.heard, PATIENCE_S, "the last word")
        heard = defaultdict(set)
        for topic, text in watcher.heard:
            heard[topic].add(text.removesuffix(" was here"))
        assert {topic: heard[topic] for topic in cells} == {t: w for t, (w, _) in cells.items()}

        for one in sessions.values():
            exact = [topic for topic in cells if topic not in RESERVED]
            for qos in (0, 1):
                one.subscribe(exact, qos)
            one.subscribe(WILDCARDS, qos=1)
        for round_ in ("first", "second"):
            watcher.publish((topic, round_) for topic in cells if topic not in RESERVED)
        for name, one in sessions.items():
            wanted = {topic for topic, (_, readers) in cells.items() if name in readers}

            def all_there(one: Session = one, wanted: set[str] = wanted) -> bool:
                return {(t, "second") for t in wanted} <= set(one.heard)

            wait_until(all_there, PATIENCE_S, f"{name} hears all of {wanted - set(one.heard)}")
        for name, one in sessions.items():
            wanted = {topic for topic, (_, readers) in cells.items() if name in readers}
            heard_there = {topic for topic, _ in one.heard if topic != "$SYS/broker/version"}
            assert heard_there == wanted, name


def test_a_will_is_no_way_around(broker: tuple[Guarded, bool]) -> None:
    running, _ = broker
    with session(running.watcher, "watcher-of-wills") as watcher:
        watcher.subscribe(["#"], qos=1)
        for will in ("fl/rounds/start", "control/proplet/alive/p-2", "control/proplet/alive/p.1"):
            vanish(running.address("p.1"), f"{PREFIX}/{will}", "offline")
        last = (f"{PREFIX}/control/proplet/alive/p.1", "offline")
        wait_until(lambda: last in watcher.heard, PATIENCE_S, "the will that is allowed")
        assert [heard for heard in watcher.heard if heard[1] == "offline"] == [last]
