"""How long it takes until another coordinator leads, in an open round.

    python -m tests.end_to_end.takeover [--times 10]

Each time an update is sent at the moment at which the leader goes, and the clock stops when it is
acknowledged. Beside it: how long an update takes while nothing happens.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.end_to_end.coordinator_pair import Pair
from tests.support.brokers import embedded_broker
from tests.support.peers import Peer, peer_at
from tests.support.postgres import postgres_server

MODEL = {"w": [0.0, 0.0, 0.0], "b": 0.0, "version": 0}
URI = "fl/models/global_model_v0"


def measure(times: int) -> Iterator[tuple[str, list[float]]]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(embedded_broker(directory))
        server = stack.enter_context(postgres_server())
        peer = stack.enter_context(peer_at(broker.address))
        pair = Pair(directory, broker, server.new_place())
        stack.callback(pair.stop)
        pair.start()
        peer.publish(URI, MODEL, retain=True)
        names = iter([f"p-{number:04}" for number in range(5 * times)])
        open_round(peer, [f"p-{number:04}" for number in range(5 * times + 1)])

        def kill() -> None:
            pair.leader.stop(signal.SIGKILL)

        def cut_off() -> None:
            pair.cut_off_the_leader(server)

        def tell_to_stop() -> None:
            pair.leader.stop()

        for what, event in (("nothing", None), ("SIGKILL", kill), ("SIGTERM", tell_to_stop)):
            found = []
            for _ in range(times):
                found.append(one(peer, next(names), event))
                if event is not None:
                    pair.take_turns()
                    pair.start_standby()
            yield what, found
        found = []
        for _ in range(times):
            found.append(one(peer, next(names), cut_off))
            pair.wait_whole()
        yield "its connection to the database ends", found


def open_round(peer: Peer, participants: list[str]) -> None:
    peer.subscribe("fl/rounds/r-1/status", "fl/rounds/r-1/acks/+")
    message = {
        "round_id": "r-1",
        "model_uri": URI,
        "task_wasm_image": "builtin:linear",
        "participants": participants,
        "hyperparams": {},
        "k_of_n": len(participants),
        "timeout_s": 3600,
    }
    peer.publish("fl/rounds/start", message)
    peer.wait_for("fl/rounds/r-1/status", lambda s: s["phase"] == "open", timeout_s=60)


def one(peer: Peer, proplet_id: str, event: Callable[[], None] | None) -> float:
    """Seconds from ``event`` until an update that is sent then is acknowledged."""
    begin_s = time.monotonic()
    if event is not None:
        event()
    update = {
        "round_id": "r-1",
        "proplet_id": proplet_id,
        "base_model_uri": URI,
        "num_samples": 10,
        "metrics": {},
        "update": {"w": [1.0, 2.0, 3.0], "b": 0.0},
    }
    peer.publish("fml/updates", update)
    topic = f"fl/rounds/r-1/acks/{proplet_id}"
    peer.wait_for(topic, lambda ack: ack["status"] == "accepted", timeout_s=60)
    return time.monotonic() - begin_s


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    print("seconds until an update is acknowledged, when … happens to the leader")
    for what, found in measure(parser.parse_args().times):
        print(f"{what:<40} median {statistics.median(found):5.2f}  worst {max(found):5.2f}")
