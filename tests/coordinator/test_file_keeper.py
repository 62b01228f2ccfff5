"""Files of updates over a real broker: fetched, refused, gone on with, and made a model of."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from propeller_fl.config import LargeConfig
from propeller_fl.coordinator import (
    Collect,
    Discard,
    FileEnded,
    FileKeeper,
    MakeModel,
    ModelEnded,
)
from propeller_fl.learn import HeldUpdates, State, strategy
from propeller_fl.link import LinkLoop
from propeller_fl.parts import PartsServer, places_of
from propeller_fl.rounds import Opening, Receipt, Round
from propeller_fl.store import RoundStore, manifest_of_file, write_vector
from propeller_fl.wire import Manifest, Reason, RoundStart, Shapes, Topics, UpdateManifest

from ..manager.peers import new_link
from ..support.brokers import RunningBroker, embedded_broker
from ..support.peers import peer_at
from ..support.wait import wait_until

TOPICS = Topics()
PART_BYTES = 4096
SHAPES: Shapes = {"W": (300, 100), "b": (40_000,), "s": ()}
SIZE = 70_001
URI = "fl/models/global_model_v0"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with embedded_broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def loop() -> Iterator[LinkLoop]:
    with LinkLoop() as running:
        yield running


class Stage:
    """A keeper, whose directory is ``files``, and a proplet that serves what it has."""

    def __init__(self, broker: RunningBroker, loop: LinkLoop, directory: Path) -> None:
        self.directory = directory
        self._broker = broker
        self._loop = loop
        self._sent = 0

    @contextmanager
    def keeper(self, *open_rounds: str) -> Iterator[FileKeeper]:
        link = new_link(self._loop, self._broker.address, f"keeper-{id(self)}")
        woken = threading.Event()
        large = LargeConfig(part_bytes=PART_BYTES)
        keeper = FileKeeper(link, TOPICS, large, self.directory / "files", woken.set)
        with closing(RoundStore(self.directory / "rounds.db")) as store:
            keeper.start(store.files, open_rounds)
        link.start()
        link.wait_connected(30)
        try:
            yield keeper
        finally:
            keeper.stop()
            link.close()

    @contextmanager
    def serving(self, file: tuple[Manifest, Path], *, all_but: int = 0) -> Iterator[None]:
        """All parts but the first few."""
        self._sent += 1
        link = new_link(self._loop, self._broker.address, f"proplet-{id(self)}-{self._sent}")
        places = dict(list(places_of(*file))[all_but:])
        server = PartsServer(link, TOPICS, places.get)
        server.start()
        link.start()
        link.wait_connected(30)
        try:
            yield
        finally:
            server.stop()
            link.close()

    def file(self, name: str, vector: NDArray[np.float32]) -> tuple[Path, Manifest]:
        path = self.directory / f"{name}.safetensors"
        write_vector(path, SHAPES, [vector])
        return path, manifest_of_file(path, 0, PART_BYTES)


@pytest.fixture
def stage(broker: RunningBroker, loop: LinkLoop, tmp_path: Path) -> Stage:
    return Stage(broker, loop, tmp_path)


def collect(manifest: Manifest, proplet_id: str = "a", round_id: str = "r-1") -> Collect:
    update = UpdateManifest(round_id, proplet_id, URI, 10, {}, manifest)
    return Collect(update, hashlib.sha256(update.encode()).hexdigest())


def next_of(keeper: FileKeeper) -> Any:
    return wait_until(keeper.take, 60, "something has ended")[0]


def numbers(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(SIZE, np.float32)


def test_what_comes_wrong_is_asked_for_again(stage: Stage, broker: RunningBroker) -> None:
    path, manifest = stage.file("a", numbers(1))
    wanted = collect(manifest)
    with stage.keeper("r-1") as keeper, peer_at(broker.address) as peer:
        peer.subscribe("fl/parts/wanted")
        keeper.do(wanted)
        peer.wait_for("fl/parts/wanted", timeout_s=30)
        for sha256 in manifest.parts[:3]:
            peer.publish(f"fl/parts/{sha256}", b"not that")
        with stage.serving((manifest, path)):
            assert next_of(keeper) == FileEnded("r-1", "a", wanted.sha256)
        kept = stage.directory / "files" / "updates" / "r-1" / "a.safetensors"
        assert kept.read_bytes() == path.read_bytes()
        keeper.do(Discard("r-1"))
        assert not kept.parent.exists()


@pytest.mark.parametrize(
    ("fault", "reason"), [("nan", Reason.NOT_FINITE), ("tensors", Reason.BAD_FIELD)]
)
def test_a_file_that_is_no_such_model_is_refused(stage: Stage, fault: str, reason: str) -> None:
    path, manifest = stage.file("a", numbers(1))
    if fault == "nan":
        data = bytearray(path.read_bytes())
        data[-4:] = b"\0\0\xc0\x7f"
        path.write_bytes(data)
        parts = [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]
        digests = tuple(hashlib.sha256(part).hexdigest() for part in parts)
        whole = hashlib.sha256(data).hexdigest()
        manifest = Manifest(0, len(data), whole, PART_BYTES, digests, SHAPES)
    else:
        shapes = {"W": (100, 300), "b": (40_000,), "s": ()}
        manifest = Manifest(
            0, manifest.size_bytes, manifest.sha256, PART_BYTES, manifest.parts, shapes
        )
    with stage.keeper("r-1") as keeper, stage.serving((manifest, path)):
        keeper.do(collect(manifest))
        ended = next_of(keeper)
        assert (ended.proplet_id, ended.reason) == ("a", reason)
        assert not (stage.directory / "files" / "updates" / "r-1" / "a.safetensors").exists()


def test_one_that_was_stopped_goes_on_and_one_that_was_whole_is_not_sent_again(
    stage: Stage, broker: RunningBroker
) -> None:
    path, manifest = stage.file("a", numbers(1))
    data = path.read_bytes()
    wanted = collect(manifest)
    part = stage.directory / "files" / "updates" / "r-1" / "a.part"
    with stage.keeper("r-1") as keeper, peer_at(broker.address) as peer:
        keeper.do(wanted)

        def ten_parts_are_there() -> bool:
            for index, sha256 in enumerate(manifest.parts[:10]):
                place = manifest.place(index)
                peer.publish(f"fl/parts/{sha256}", data[place.start : place.stop])
            return there(part, data) >= 10 * PART_BYTES

        wait_until(ten_parts_are_there, 60, "ten parts are there")
    with stage.keeper("r-1") as keeper, stage.serving((manifest, path), all_but=10):
        keeper.do(wanted)
        assert next_of(keeper) == FileEnded("r-1", "a", wanted.sha256)
    with stage.keeper("r-1") as keeper:  # killed before it was said, and nobody serves it any more
        keeper.do(wanted)
        assert next_of(keeper) == FileEnded("r-1", "a", wanted.sha256)
    with stage.keeper() as keeper:  # the round has ended meanwhile
        assert not part.parent.exists()


def there(path: Path, data: bytes) -> int:
    found = path.read_bytes() if path.exists() else b""
    return next((at for at, (a, b) in enumerate(zip(found, data, strict=False)) if a != b), 0)


@pytest.mark.parametrize("name", ["fedavg", "fedprox", "median", "trimmed_mean"])
def test_a_model_of_files_has_the_bits_of_one_of_messages(stage: Stage, name: str) -> None:
    proplets = [f"p-{number}" for number in range(9)]
    vectors = np.stack([numbers(number) for number in range(9)])
    samples = [number * 7 + 1 for number in range(9)]
    folder = stage.directory / "files" / "updates" / "r-1"
    folder.mkdir(parents=True)
    for proplet, vector in zip(proplets, vectors, strict=True):
        write_vector(folder / f"{proplet}.safetensors", SHAPES, [vector])
    start = RoundStart("r-1", URI, "builtin:linear", tuple(proplets), {}, 9, 60.0, strategy=name)
    accepted = {p: Receipt("0" * 64, n, 1) for p, n in zip(proplets, samples, strict=True)}
    round_ = Round(Opening(start, 0.0, SHAPES, "", in_parts=True), accepted=accepted)
    with stage.keeper("r-1") as keeper:
        keeper.do(MakeModel(round_))
        ended = next_of(keeper)
    assert isinstance(ended, ModelEnded)
    assert ended.manifest is not None, ended.detail
    held = HeldUpdates(vectors, samples)
    base = np.zeros(SIZE, np.float32)
    wanted = strategy(name, {}).aggregate(base, held, State()).model.astype(np.float32)
    made = (stage.directory / "files" / "models" / "r-1.safetensors").read_bytes()
    assert made[-wanted.nbytes :] == wanted.tobytes()
    assert ended.manifest.shapes == SHAPES


def test_a_file_that_is_gone_makes_no_model(stage: Stage) -> None:
    start = RoundStart("r-1", URI, "builtin:linear", ("a",), {}, 1, 60.0)
    opening = Opening(start, 0.0, SHAPES, "", in_parts=True)
    with stage.keeper("r-1") as keeper:
        keeper.do(MakeModel(Round(opening, accepted={"a": Receipt("0" * 64, 1, 1)})))
        ended = next_of(keeper)
    assert isinstance(ended, ModelEnded)
    assert ended.manifest is None
    assert "gone" in ended.detail
