"""Differences to the base model on their way through the coordinator."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from propeller_fl.wire import UPDATE_LABELS, Delta, Format, encode_document
from tests.coordinator.engine_desk import BASE, V0, Desk, start

V1 = "fl/models/global_model_v1"
BASES = {"w": np.array([0.5, -1.5, 2.0], np.float32), "b": np.array(0.25, np.float32)}
TRAINED = {"w": np.array([1.5, -1.0, 2.125], np.float32), "b": np.array(-3.0, np.float32)}


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.model(0, **{name: array.tolist() for name, array in BASES.items()})
    return desk


def update(proplet_id: str, round_id: str = "r-1", **changes: Any) -> bytes:
    """What a module writes for ``int8-delta``."""
    document = {
        "round_id": round_id,
        "proplet_id": proplet_id,
        "base_model_uri": BASE,
        "num_samples": 10,
        "metrics": {"loss": 1.0},
        "update": {
            "w": Delta.between(TRAINED["w"], BASES["w"]).document(),
            "b": TRAINED["b"],
        },
    } | changes
    labelled: dict[Any, Any] = {label: document[name] for label, name in UPDATE_LABELS.items()}
    return encode_document(labelled, Format.CBOR)


def answer(desk: Desk, proplet_id: str = "a", round_id: str = "r-1") -> tuple[str, str]:
    last = desk.heard(f"fl/rounds/{round_id}/acks/{proplet_id}")[-1]
    return last["status"], last["reason"]


def expected() -> list[float]:
    delta = Delta.between(TRAINED["w"], BASES["w"])
    found: list[float] = delta.added_to(BASES["w"], "w").tolist()
    return found


def test_a_difference_is_added_to_the_base_model(desk: Desk) -> None:
    desk.start(start())
    desk.update(update("a"))
    assert answer(desk) == ("accepted", "")
    [complete] = desk.heard("fl/rounds/r-1/complete")
    assert (complete["status"], complete["update_bytes"]) == ("complete", len(update("a")))
    made = json.loads(desk.models[V1])
    assert np.array(made["w"], np.float32).tolist() == expected()
    assert made["w"] == pytest.approx(TRAINED["w"], abs=0.05)
    assert made["b"] == -3.0


def test_formats_mix_in_one_round(desk: Desk) -> None:
    """Whatever a round asks for: a module that cannot write it writes what it can."""
    desk.start(start(k_of_n=3, update_format="int8-delta"))
    whole = {name: array.tolist() for name, array in TRAINED.items()}
    desk.update(update("a"))
    desk.update(
        {
            "round_id": "r-1",
            "proplet_id": "b",
            "base_model_uri": BASE,
            "num_samples": 10,
            "metrics": {},
            "update": whole,
        }
    )
    desk.update(update("c", update=TRAINED))
    made = json.loads(desk.models[V1])
    assert made["w"] == pytest.approx((2 * TRAINED["w"] + expected()) / 3, rel=1e-6)


def test_a_restart_in_between_changes_nothing(desk: Desk) -> None:
    other = Desk()
    other.model(0, **{name: array.tolist() for name, array in BASES.items()})
    for each in (desk, other):
        each.start(start(k_of_n=2))
        each.update(update("a"))
        if each is other:
            each.restart()
        each.update(update("b", num_samples=7))
    assert desk.models[V1] == other.models[V1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"base_model_uri": V1}, "stale_base_model"),
        ({"update": {"w": Delta.between(TRAINED["w"], BASES["w"]).document()}}, "missing_tensor"),
        (
            {"update": {"w": Delta.between(TRAINED["w"][:2], BASES["w"][:2]).document(), "b": 0}},
            "wrong_shape",
        ),
        (
            {
                "update": {
                    name: Delta.between(TRAINED["w"], BASES["w"]).document()
                    for name in ("w", "b", "c")
                }
            },
            "wrong_shape",
        ),
        ({"update": {"w": [0.5, [3], np.array([0, 0, 0], np.uint8)], "b": 0}}, "bad_field"),
        ({"update": {"w": [3e38, [3], np.array([0x44, 4, 7], np.uint8)], "b": 0}}, "not_finite"),
        ({"num_samples": 0}, "bad_num_samples"),
    ],
    ids=[
        "stale", "missing", "shorter", "of a scalar", "unreadable", "overflow", "samples",
    ],
)  # fmt: skip
def test_the_rules_refuse_differences_for_the_same_reasons(
    changes: dict[str, Any], reason: str, desk: Desk
) -> None:
    desk.start(start())
    desk.update(update("a", **changes))
    assert answer(desk) == ("refused", reason)
    desk.update(update("a"))
    assert answer(desk) == ("accepted", "")


def test_a_stranger_and_an_unknown_round_are_refused(desk: Desk) -> None:
    desk.start(start(k_of_n=2))
    desk.update(update("d"), update("a", "r-2"))
    assert answer(desk, "d") == ("refused", "not_participant")
    assert answer(desk, "a", "r-2") == ("refused", "unknown_round")


def test_an_evaluation_takes_no_difference(desk: Desk) -> None:
    desk.start(start(mode="evaluate"))
    desk.update(update("a"))
    assert answer(desk) == ("refused", "extra_tensor")


@pytest.mark.parametrize("w", [[9.0, 9.0, 9.0], [9.0, 9.0]], ids=["other numbers", "other shape"])
def test_a_base_model_that_is_replaced_stays_what_differences_are_to(
    desk: Desk, w: list[float]
) -> None:
    desk.start(start(k_of_n=3))
    desk.update(update("a"))
    desk.model(0, w=w, b=9.0)
    desk.update(update("b"))
    desk.restart()
    desk.model(0, w=w, b=9.0)  # as it comes from the broker then
    desk.update(update("c"))
    made = json.loads(desk.models[V1])
    assert np.array(made["w"], np.float32).tolist() == expected()


def test_many_rounds_on_many_models_stay_apart() -> None:
    desk = Desk()
    for version in range(20):
        w = [float(version)] * 3
        desk.model(version, w=w, b=V0["b"])
        desk.start(start(f"r-{version}", model_uri=f"fl/models/global_model_v{version}"))
    for version in reversed(range(20)):
        base = np.full(3, version, np.float32)
        delta = Delta.between(base + 1, base).document()
        desk.update(
            update(
                "a",
                f"r-{version}",
                base_model_uri=f"fl/models/global_model_v{version}",
                update={"w": delta, "b": 0},
            )
        )
    made = [json.loads(desk.models[f"fl/models/global_model_v{20 + n}"]) for n in range(20)]
    assert [model["w"][0] for model in made] == pytest.approx(
        [version + 1 for version in reversed(range(20))], rel=1e-6
    )


def test_evaluations_of_one_layout_are_taken_like_the_first(desk: Desk) -> None:
    """They have no arrays, and are read by the layout of one before as any update is."""
    desk.start(start(k_of_n=3, mode="evaluate"))
    for proplet_id in ("a", "b", "c"):
        document = {
            "round_id": "r-1",
            "proplet_id": proplet_id,
            "base_model_uri": BASE,
            "num_samples": 10,
            "metrics": {"loss": 1.0},
            "update": {},
        }
        desk.update(encode_document(document, Format.CBOR))
        assert answer(desk, proplet_id) == ("accepted", "")
    [complete] = desk.heard("fl/rounds/r-1/complete")
    assert (complete["status"], complete["num_updates"]) == ("complete", 3)
    assert complete["metrics"] == {"loss": 1.0}
