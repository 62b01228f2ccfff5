"""Files in parts over a real broker: holders that lack or damage parts, receivers that end."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from propeller_fl.errors import LinkError, MessageError
from propeller_fl.link import BrokerSettings, Incoming, Link, LinkLoop
from propeller_fl.parts import Cancelled, Fetcher, PartPlace, PartsServer, places_of
from propeller_fl.store import check_file, manifest_of_file, write_large
from propeller_fl.wire import Manifest, Model, PartsWanted, Topics

from ..manager.peers import new_link
from ..support.brokers import RunningBroker, embedded_broker
from ..support.wait import wait_until

TOPICS = Topics()
PART_BYTES = 192 * 1024
PACKET_BYTES = 256 * 1024
SETTING = "data_dir"


class Stage:
    def __init__(self, broker: RunningBroker, directory: Path) -> None:
        self.broker = broker
        self.path = directory / "model.safetensors"
        numbers = np.random.default_rng(1).standard_normal(1_000_000, np.float32)
        write_large(Model({"w": numbers, "z": np.zeros(200_000, np.float32)}), self.path)
        self.manifest = manifest_of_file(self.path, 3, PART_BYTES)
        self.loop = LinkLoop()
        self.loop.start()
        self.sent: list[str] = []
        self.watcher = self.link("watcher")
        self.watcher.subscribe(TOPICS.any_part, self._hear, qos=0).wait(10)

    def link(self, name: str) -> Link:
        link = new_link(self.loop, self.broker.address, name)
        link.start()
        link.wait_connected(10)
        return link

    def _hear(self, incoming: Incoming) -> None:
        self.sent.append(incoming.topic)
        incoming.ack()

    @contextmanager
    def holder(
        self, path: Path, has: Callable[[str], bool] = lambda sha256: True
    ) -> Iterator[PartsServer]:
        places = {sha256: place for sha256, place in places_of(self.manifest, path) if has(sha256)}

        def find(sha256: str) -> PartPlace | None:
            return places.get(sha256)

        server = PartsServer(self.link(f"holder-{uuid.uuid4().hex[:8]}"), TOPICS, find)
        server.start()
        try:
            yield server
        finally:
            server.stop()

    def fetch(
        self,
        target: Path,
        name: str = "receiver",
        manifest: Manifest | None = None,
        cancelled: threading.Event | None = None,
    ) -> None:
        fetcher = Fetcher(self.link(name), TOPICS, name, 16, patience_s=30)
        fetcher.fetch(manifest or self.manifest, target, cancelled or threading.Event(), SETTING)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    settings = BrokerSettings(redeliver_after_s=1.0, max_payload_bytes=PACKET_BYTES)
    with embedded_broker(tmp_path, settings) as broker:
        made = Stage(broker, tmp_path)
        try:
            yield made
        finally:
            made.loop.stop()


def test_a_file_that_no_packet_could_hold(stage: Stage, tmp_path: Path) -> None:
    assert stage.manifest.size_bytes > 10 * PACKET_BYTES
    with stage.holder(stage.path):
        stage.fetch(tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == stage.path.read_bytes()


def test_many_receivers_cost_about_one_sending(stage: Stage, tmp_path: Path) -> None:
    with stage.holder(stage.path):
        receivers = [
            threading.Thread(target=stage.fetch, args=(tmp_path / f"got-{n}", f"receiver-{n}"))
            for n in range(6)
        ]
        for receiver in receivers:
            receiver.start()
        for receiver in receivers:
            receiver.join(60)
    for n in range(6):
        check_file(tmp_path / f"got-{n}", stage.manifest)
    sent = [topic for topic in stage.sent if topic != TOPICS.parts_wanted]
    assert len(sent) < 3 * len(set(stage.manifest.parts))


def test_what_one_holder_lacks_or_has_damaged_comes_from_another(
    stage: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = tmp_path / "damaged"
    data = bytearray(stage.path.read_bytes())
    data[5 * PART_BYTES] ^= 1
    damaged.write_bytes(data)
    lacking = {*stage.manifest.parts[:3]}
    with (
        stage.holder(stage.path, lambda sha256: sha256 in {*lacking, stage.manifest.parts[5]}),
        stage.holder(damaged, lambda sha256: sha256 not in lacking),
    ):
        stage.fetch(tmp_path / "got")
    check_file(tmp_path / "got", stage.manifest)
    assert "damaged is damaged" in caplog.text


def test_a_wrong_part_is_dropped_and_asked_for_again(
    stage: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    liar = stage.link("liar")
    wanted: list[str] = []

    def lie(incoming: Incoming) -> None:
        for sha256 in PartsWanted.decode(incoming.payload).parts:
            wanted.append(sha256)
            liar.publish(TOPICS.part(sha256), b"wrong")
        incoming.ack()

    liar.subscribe(TOPICS.parts_wanted, lie, qos=0).wait(10)
    receiver = threading.Thread(target=stage.fetch, args=(tmp_path / "got",))
    receiver.start()
    wait_until(lambda: "a part is dropped" in caplog.text, 15, "a lie is found out")
    with stage.holder(stage.path):  # only now is there one who has them
        receiver.join(60)
    check_file(tmp_path / "got", stage.manifest)
    assert max(map(wanted.count, wanted)) > 1


def test_it_goes_on_where_it_was(stage: Stage, tmp_path: Path) -> None:
    """Also when some of what was there has been damaged meanwhile."""
    got = tmp_path / "got"
    cancelled = threading.Event()
    half = {*stage.manifest.parts[:12]}
    with stage.holder(stage.path, half.__contains__):
        outcome: list[BaseException] = []

        def fetch() -> None:
            try:
                stage.fetch(got, cancelled=cancelled)
            except Cancelled as error:
                outcome.append(error)

        receiver = threading.Thread(target=fetch)
        receiver.start()
        wait_until(lambda: len({*stage.sent}) >= 13, 15, "half of it has been sent")
        wait_until(lambda: there(got, stage.manifest) >= {*range(12)}, 15, "and is there")
        cancelled.set()
        receiver.join(15)
    assert outcome
    with got.open("rb+") as file:
        file.seek(PART_BYTES)
        file.write(b"damage")
    here = there(got, stage.manifest)  # with the parts of zeros, which an empty place holds as well
    missing = {sha256 for index, sha256 in enumerate(stage.manifest.parts) if index not in here}
    assert stage.manifest.parts[1] in missing
    assert len(missing) > 5
    stage.sent.clear()
    with stage.holder(stage.path):
        stage.fetch(got, "again")
    check_file(got, stage.manifest)

    def fetched() -> set[str]:
        return {topic.rpartition("/")[2] for topic in list(stage.sent)} - {"wanted"}

    wait_until(lambda: fetched() >= missing, 15, "what was missing has been sent")
    assert fetched() == missing


def there(path: Path, manifest: Manifest) -> set[int]:
    data = path.read_bytes()
    return {
        index
        for index, sha256 in enumerate(manifest.parts)
        if hashlib.sha256(data[index * PART_BYTES :][:PART_BYTES]).hexdigest() == sha256
    }


def test_a_broker_that_dies_in_the_middle(stage: Stage, tmp_path: Path) -> None:
    with stage.holder(stage.path):
        receiver = threading.Thread(target=stage.fetch, args=(tmp_path / "got",))
        receiver.start()
        wait_until(lambda: len(stage.sent) > 4, 15, "it has begun")
        stage.broker.kill()
        stage.broker.start()
        receiver.join(60)
    check_file(tmp_path / "got", stage.manifest)


def test_nobody_has_it(stage: Stage, tmp_path: Path) -> None:
    fetcher = Fetcher(stage.link("alone"), TOPICS, "alone", 16, patience_s=1)
    with pytest.raises(LinkError, match=r"no part has come for 1 s, \d+ are missing"):
        fetcher.fetch(stage.manifest, tmp_path / "got", threading.Event(), SETTING)


def test_parts_that_do_not_make_the_whole(stage: Stage, tmp_path: Path) -> None:
    """A manifest that is wrong is found out at the end, and nothing of it is kept."""
    manifest = stage.manifest
    wrong = Manifest(3, manifest.size_bytes, "0" * 64, PART_BYTES, manifest.parts, manifest.shapes)
    with stage.holder(stage.path), pytest.raises(MessageError, match="has not the SHA-256"):
        stage.fetch(tmp_path / "got", manifest=wrong)
    assert not (tmp_path / "got").exists()
