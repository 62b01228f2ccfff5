"""The rest of what the coordinator's store promises, wherever it is kept."""

from __future__ import annotations

import numpy as np
import pytest

from propeller_fl.errors import StoreError
from propeller_fl.rounds import Opening, UpdateFacts
from propeller_fl.store import NewUpdate, PruneBudget, RoundStore, facts_of
from propeller_fl.wire import (
    Manifest,
    Outcome,
    Phase,
    RoundComplete,
    RoundStart,
    Shapes,
    UpdateManifest,
)
from tests.store.round_stores import Place

BASE = "fl/models/global_model_v0"
SHAPES: Shapes = {"w": (3,)}
FILE = Manifest(0, 112, "ab" * 32, 4096, ("cd" * 32,), SHAPES)


def start(round_id: str) -> RoundStart:
    return RoundStart(round_id, BASE, "builtin:linear", ("a", "b"), {}, 1, 30.0)


def run_round(store: RoundStore, round_id: str, proplets: tuple[str, ...] = ("a",)) -> None:
    """A whole round, which makes the next model."""
    version = store.latest_version() + 1
    uri = f"fl/models/global_model_v{version}"
    with store.transaction():
        store.open_round(Opening(start(round_id), float(version), SHAPES, "ef" * 32))
        for proplet_id in proplets:
            facts = UpdateFacts(round_id, proplet_id, BASE, 10, SHAPES, "sha", 77)
            store.keep_updates([NewUpdate(facts, {}, np.zeros(3, np.float32))], 1.0)
        store.record_refusal(round_id, "c", "not_participant", "", 2.0)
        store.put_model(uri, b"a model", round_id)
        store.save_completion(RoundComplete(round_id, Outcome.COMPLETE, version, uri, 1, 10, "now"))


def test_old_rounds_go_with_all_but_their_ids_and_new_ones_stay(place: Place) -> None:
    with place.open() as store:
        for number in range(4):
            run_round(store, f"r-{number}")
        with store.transaction():
            assert store.prune_rounds(2, PruneBudget(1_000_000)) == ["r-0", "r-1"]
            store.prune_models(2, [BASE], PruneBudget(1_000_000))
        assert store.newest_ended(10) == ["r-2", "r-3"]
        assert store.load_round("r-1") is None
        known = store.known_round("r-1")
        assert known is not None
        assert (known.start_sha256, known.pruned) == (start("r-1").digest(), True)
        assert store.story("r-1") == []
        found = [store.model(f"fl/models/global_model_v{version}") for version in range(4)]
        assert found == [b"a model", None, b"a model", b"a model"], "the first is a base"


def test_what_is_pruned_is_bounded_and_goes_on(place: Place) -> None:
    names = tuple(f"p-{number:03}" for number in range(40))
    with place.open() as store:
        run_round(store, "large", names)
        run_round(store, "small")
        left = []
        for _ in range(9):
            with store.transaction():
                store.prune_rounds(1, PruneBudget(10 * 16 * 1024))
            [(count,)] = place.execute("SELECT count(*) FROM updates")
            left.append(count)
        assert left[0] > 20
        assert left[-1] == 1
        assert place.execute("SELECT round_id FROM rounds") == [("small",)]


def test_updates_come_in_the_order_of_the_bytes_of_their_proplets_ids(place: Place) -> None:
    names = ("b", "a-1", "B", "a.1", "a_1", "a1", "Z", "z")
    with place.open() as store:
        run_round(store, "r-1", names)
        assert [update.proplet_id for update in store.updates("r-1")] == sorted(names)


def test_a_proplet_counts_once_in_a_round(place: Place) -> None:
    with place.open() as store:
        with pytest.raises(StoreError):
            run_round(store, "r-1", ("a", "a"))
        assert store.known_round("r-1") is None
        run_round(store, "r-1")
        with pytest.raises(StoreError):
            run_round(store, "r-1")
        assert store.latest_version() == 0


def test_what_others_have_written_cannot_break_it(place: Place) -> None:
    detail = "a NUL \0, half a character \ud800, a quote ', % and ? " + "x" * 5000
    with place.open() as store:
        run_round(store, "r-1")
        store.record_refusal("r-1", "d", "malformed", detail, 3.0)
        line = store.story("r-1")[-1]
        assert line.proplet_id == "d"
        assert "a NUL " in line.detail
        assert "\\ud800, a quote ', % and ? xxx" in line.detail


def test_phases_and_numbers_keep_their_types(place: Place) -> None:
    opening = Opening(start("r-1"), 1_700_000_000.123456, SHAPES, "ab" * 32, True)
    with place.open() as store:
        with store.transaction():
            store.open_round(opening)
        round_ = store.load_round("r-1")
        assert round_ is not None
        assert (round_.opening, round_.phase) == (opening, Phase.OPEN)
        assert round_.outcome is None
        assert store.completion("r-1") is None


def test_offers_of_files_become_updates_and_go_with_their_round(place: Place) -> None:
    update = UpdateManifest("r-1", "a", BASE, 10, {"loss": 0.5}, FILE)
    document = update.encode()
    facts = facts_of(update, "sha 1")
    with place.open() as store:
        with store.transaction():
            store.open_round(Opening(start("r-1"), 1.0, SHAPES, "ab" * 32, True))
            store.files.offer(facts_of(update, "sha 0"), document)
            store.files.offer(facts, document)
        round_ = store.load_round("r-1")
        assert round_ is not None
        assert round_.offered == {"a": facts}
        with store.transaction():
            store.files.set_whole("r-1", "a")
        assert store.files.offered("r-1") == {}
        assert store.files.of("r-1", "a") == update
        with store.transaction():
            store.files.drop_round("r-1")
            store.files.put_model(BASE, "r-1", FILE.encode())
        assert [model.round_id for model in store.files.models()] == ["r-1"]
        assert store.files.drop_model(BASE, b"another") is None
        assert store.files.drop_model(BASE, FILE.encode()) == "r-1"
        assert store.files.drop_model(BASE, FILE.encode()) is None


def test_messages_are_owed_in_the_order_of_their_promises(place: Place) -> None:
    with place.open() as store:
        with store.transaction():
            for number in range(10):
                store.owe(f"t/{number}", bytes([number, 0, 255]), retain=number % 2 == 0)
        with store.transaction():
            first, *later = store.owed()
            store.settle([later[0].id, later[3].id])
        assert store.count_owed() == 8
        assert [owed.topic for owed in store.owed(first.id)][:2] == ["t/2", "t/3"]
        assert (first.payload, first.retain) == (b"\x00\x00\xff", True)
