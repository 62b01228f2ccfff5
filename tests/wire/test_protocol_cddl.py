"""docs/protocol.cddl describes every message: what is written is held against it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cbor2
import numpy as np
import pytest
from cddl_verifier import Validator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from propeller_fl.datasets import load
from propeller_fl.errors import MessageError
from propeller_fl.wire import (
    UPDATE_LABELS,
    AckStatus,
    Alive,
    Command,
    Delta,
    Discovery,
    Evaluation,
    ExperimentCommand,
    ExperimentPhase,
    ExperimentStart,
    ExperimentStatus,
    FlSpec,
    Format,
    Goal,
    LaunchReport,
    Liveness,
    Manifest,
    Mode,
    Model,
    Outcome,
    PartsWanted,
    Phase,
    RoundComplete,
    RoundStart,
    RoundStatus,
    RoundStop,
    Schedule,
    Selection,
    StopRules,
    TaskResult,
    TaskStart,
    TaskStop,
    Update,
    UpdateAck,
    UpdateFormat,
    UpdateManifest,
    encode_document,
    model_uri,
)
from tests.firmware.toolchain import FIXTURES
from tests.wasm_client.golden import Case, load_all

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "protocol.cddl"
VALIDATOR = Validator(SCHEMA)
MOST_BYTES = 4096  # of a document in text: the validator takes a while for each number
RULES = {"result": "task-result"}  # of fixtures with another name

few = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def check(document: bytes, rule: str) -> None:
    """Fail unless the document, JSON or CBOR, is what the rule describes."""
    result = VALIDATOR.validate(as_cbor(document), root_type=rule)
    assert result.valid, [str(diagnostic) for diagnostic in result.diagnostics]


def as_cbor(document: bytes) -> bytes:
    return document if 0xA0 <= document[0] <= 0xBF else cbor2.dumps(json.loads(document))


def refuses(document: Any, rule: str) -> bool:
    return not VALIDATOR.validate(cbor2.dumps(document), root_type=rule).valid


# --- what there is


def fixtures(folder: str) -> list[Path]:
    return sorted((FIXTURES / folder).glob("*.json"))


def rule_of(path: Path) -> str:
    kind = path.stem.split("-")[0]
    return RULES.get(kind, kind.replace("_", "-"))


@pytest.mark.parametrize("path", fixtures("valid"), ids=lambda path: path.stem)
def test_valid_messages_are_described(path: Path) -> None:
    check(path.read_bytes(), rule_of(path))


@pytest.mark.parametrize(
    "path",
    [path for path in fixtures("invalid") if path.stem.split("-")[1] != "undecodable"],
    ids=lambda path: path.stem,
)
def test_invalid_messages_are_not(path: Path) -> None:
    assert refuses(json.loads(path.read_bytes()), rule_of(path))


@pytest.mark.parametrize(
    "case", [case for case in load_all() if case.status == 0], ids=lambda case: case.name
)
def test_what_the_modules_read_and_write_is_described(case: Case) -> None:
    check(case.stdout, "update")
    for name, content in case.files.items():
        if len(content) < MOST_BYTES:
            check(content, name)


@pytest.mark.parametrize("form", Format)
def test_data_of_a_proplet_are_described(form: Format) -> None:
    check(load("digits").take(np.arange(9)).encode(form), "data")
    check(load("tumors").take(np.arange(9)).encode(form), "data")


def test_the_page_and_the_schema_name_the_same_messages() -> None:
    page = (SCHEMA.parent / "protocol.md").read_text(encoding="utf-8")
    table = page.partition("## Topics")[2].partition("\n\nAn id (")[0]
    named = set(re.findall(r"\| (\w+)[,; ][^|]*\| (?:yes|no) \|", table)) - {"the", "a"}
    kebab = {re.sub(r"(?<!^)([A-Z])", r"-\1", name).lower() for name in named}
    schema = SCHEMA.read_text(encoding="utf-8")
    assert {"round-start", "update", "task-start", "alive"} <= kebab
    for rule in kebab:
        assert re.search(rf"^{rule} = ", schema, re.MULTILINE), f"{rule} is not described"


# --- what is written, whatever is in it

ids = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", fullmatch=True)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
counts = st.integers(0, 100_000)
numbers = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), numbers, texts)
uris = st.integers(0, 10**18 - 1).map(model_uri)
counters = st.dictionaries(texts, st.integers(0, 2**40), max_size=3)
metrics = st.dictionaries(texts, numbers, max_size=3)
several = st.lists(ids, unique=True, max_size=4).map(tuple)
specs = st.builds(
    FlSpec, ids, uris, st.one_of(st.just(""), digests), st.sampled_from(UpdateFormat),
    st.floats(0, 1e11), st.dictionaries(texts, scalars, max_size=3), texts,
)  # fmt: skip
shapes = st.dictionaries(
    st.text("abcW.0", min_size=1, max_size=9),
    st.lists(st.integers(1, 2**30), max_size=8).map(tuple),
    min_size=1,
    max_size=3,
)


@st.composite
def round_starts(draw: st.DrawFn) -> RoundStart:
    participants = draw(st.lists(ids, unique=True, min_size=1, max_size=5))
    k_of_n = draw(st.integers(1, len(participants)))
    return RoundStart(
        round_id=draw(ids),
        model_uri=draw(uris),
        task_wasm_image=draw(texts),
        participants=tuple(participants),
        hyperparams=draw(st.dictionaries(texts, scalars, max_size=4)),
        k_of_n=k_of_n,
        timeout_s=draw(st.one_of(st.integers(1, 86_400), st.floats(1e-3, 86_400))),
        min_updates=draw(st.integers(1, k_of_n)),
        strategy=draw(texts),
        strategy_args=draw(st.dictionaries(texts, scalars, max_size=2)),
        update_format=draw(st.sampled_from(UpdateFormat)),
        mode=draw(st.sampled_from(Mode)),
        image_sha256=draw(st.one_of(st.just(""), digests)),
    )


short_ids = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,53}", fullmatch=True)
shares = st.floats(1e-6, 1)
id_lists = st.lists(ids, unique=True, max_size=3).map(tuple)
rules = st.one_of(
    st.builds(Selection, ids=st.lists(ids, unique=True, min_size=1, max_size=3).map(tuple)),
    st.builds(
        Selection, st.just(()), st.dictionaries(texts, texts, max_size=2), counts, shares,
        st.integers(1, 9), st.sampled_from([0, 10, 100_000]), shares, st.integers(1, 9),
    ),
)  # fmt: skip
schedules = st.one_of(
    st.builds(Schedule, st.just(((1, 0.5), (9, 2)))),
    st.builds(
        Schedule, st.just(()), st.floats(0.1, 9), st.integers(1, 100),
        st.one_of(st.none(), numbers),
    ),
)  # fmt: skip
stops = st.builds(
    StopRules, st.integers(1, 1000), st.just("accuracy"), st.sampled_from(Goal),
    st.one_of(st.none(), numbers), counts, st.floats(0, 9), st.integers(1, 9),
)  # fmt: skip


@st.composite
def experiment_starts(draw: st.DrawFn) -> ExperimentStart:
    return ExperimentStart(
        experiment_id=draw(short_ids),
        task_wasm_image=draw(texts),
        participants=draw(rules),
        stop=draw(stops),
        model_uri=draw(uris),
        hyperparams={"lr": 0.5} | draw(st.dictionaries(st.just("epochs"), st.integers(1, 9))),
        schedule=draw(st.dictionaries(st.just("lr"), schedules)),
        evaluate=draw(st.builds(Evaluation, counts, st.floats(0, 86_400), id_lists)),
        timeout_s=draw(st.floats(1e-3, 86_400)),
        strategy=draw(texts),
        strategy_args=draw(st.dictionaries(texts, scalars, max_size=2)),
        update_format=draw(st.sampled_from(UpdateFormat)),
        image_sha256=draw(st.one_of(st.just(""), digests)),
        seed=draw(st.integers(0, 2**53)),
    )


MESSAGES: Mapping[str, st.SearchStrategy[Any]] = {
    "round-start": round_starts(),
    "update-ack": st.builds(
        UpdateAck, ids, ids, st.sampled_from(AckStatus), digests, texts, texts
    ),
    "round-status": st.builds(
        RoundStatus, ids, st.sampled_from(Phase), st.one_of(st.just(""), digests), counts, counts,
        counts, counters, st.floats(0, 1e11), st.one_of(st.just(""), digests), several, texts,
        texts,
    ),
    "round-stop": st.builds(RoundStop, ids, texts),
    "round-complete": st.builds(
        RoundComplete, ids, st.sampled_from(Outcome), st.integers(0, 10**18 - 1), texts, counts,
        st.integers(0, 2**62), texts, st.integers(0, 2**62), st.one_of(st.just(""), digests),
        metrics, counters, several, texts,
    ),
    "launch-report": st.builds(
        LaunchReport, ids, several, several, st.dictionaries(ids, texts, max_size=3), texts
    ),
    "experiment-start": experiment_starts(),
    "experiment-command": st.builds(
        ExperimentCommand, short_ids, st.sampled_from(Command)
    ),
    "experiment-status": st.builds(
        ExperimentStatus, short_ids, st.sampled_from(ExperimentPhase), digests, counts, counts,
        texts, uris, metrics, metrics, numbers, counts, texts, texts,
    ),
    "discovery": st.builds(Discovery, ids, texts, st.dictionaries(texts, texts, max_size=3)),
    "alive": st.builds(Alive, ids, st.sampled_from(Liveness), texts),
    "task-start": st.builds(
        TaskStart, texts, texts, ids, texts, st.dictionaries(texts, texts, max_size=3), digests,
        st.one_of(st.none(), specs),
    ),
    "task-stop": st.builds(TaskStop, texts, st.one_of(st.just(""), ids)),
    "task-result": st.builds(TaskResult, texts, ids, texts, texts),
    "manifest": st.builds(
        Manifest, st.integers(0, 10**18 - 1), st.integers(1, 2**40), digests,
        st.integers(4096, 2**23), st.lists(digests, min_size=1, max_size=3).map(tuple), shapes,
    ),
    "update-manifest": st.builds(
        UpdateManifest, ids, ids, uris, st.integers(1, 2**43), metrics,
        st.builds(
            Manifest, st.just(0), st.integers(1, 2**40), digests, st.integers(4096, 2**23),
            st.lists(digests, min_size=1, max_size=3).map(tuple), shapes,
        ),
    ),
    "parts-wanted": st.builds(
        PartsWanted, ids, st.lists(digests, min_size=1, max_size=3).map(tuple)
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", MESSAGES)
def test_what_we_write_is_described(rule: str) -> None:
    @few
    @given(MESSAGES[rule])
    def holds(message: Any) -> None:
        check(message.encode(), rule)

    holds()


arrays = npst.arrays(
    np.float32,
    npst.array_shapes(min_dims=0, max_dims=3, max_side=4),
    elements=st.floats(-1e6, 1e6, width=32),
)
names = st.text("abcWxyz.0", min_size=1, max_size=9).filter(lambda name: name != "version")
tensors = st.dictionaries(names, arrays, min_size=1, max_size=3)


@few
@given(tensors, st.one_of(st.none(), st.integers(0, 10**18 - 1)), st.sampled_from(Format))
def test_models_are_described(named: dict[str, Any], version: int | None, form: Format) -> None:
    check(Model(named, version).encode(form), "model")


def _named(document: dict[str, Any]) -> bytes:
    return encode_document(document, Format.CBOR)


def _labelled(document: dict[str, Any]) -> bytes:
    keyed: dict[Any, Any] = {
        label: document[name] for label, name in UPDATE_LABELS.items() if name in document
    }
    return encode_document(keyed, Format.CBOR)


def _as_json(document: dict[str, Any]) -> bytes:
    whole = {name: item for name, item in document["update"].items() if type(item) is not list}
    return encode_document(document | {"update": whole}, Format.JSON)


@few
@given(
    ids,
    st.one_of(st.none(), ids),
    st.integers(1, 2**43),
    metrics,
    tensors,
    st.booleans(),
    st.sampled_from([_named, _labelled, _as_json]),
)
def test_updates_are_described(
    round_id: str,
    proplet_id: str | None,
    num_samples: int,
    measured: dict[str, float],
    named: dict[str, Any],
    as_difference: bool,
    encode: Callable[[dict[str, Any]], bytes],
) -> None:
    sender = {"proplet_id": proplet_id} if proplet_id is not None else {}
    document = {
        "round_id": round_id,
        **sender,
        "base_model_uri": model_uri(3),
        "num_samples": num_samples,
        "metrics": measured,
        "update": {
            name: Delta.between(array, np.zeros_like(array)).document() if as_difference else array
            for name, array in named.items()
        },
    }
    written = encode(document)
    check(written, "update")
    Update.decode(written)


# --- what nobody may write

UPDATE: dict[Any, Any] = {
    "round_id": "r-1",
    "proplet_id": "p-1",
    "base_model_uri": "fl/models/global_model_v0",
    "num_samples": 1,
    "update": {"w": [1.0]},
}


@pytest.mark.parametrize(
    "changes",
    [
        {"num_samples": 0},
        {"num_samples": 1.5},
        {"round_id": "a/b"},
        {"update": None},
        {"update": {"w": "1"}},
        {"update": {"w": []}},
        {"update": {"w": cbor2.CBORTag(1, 5)}},
        {"update": {"w": cbor2.CBORTag(40, [[2], [1.0, 2.0]])}},
        {"update": {"w": [0.5, [0], cbor2.CBORTag(64, b"")]}},
        {"update": {"w": [-0.5, [1], cbor2.CBORTag(64, b"\0\1")]}},
        {"update": {"w": [0.5, [1], b"\0\1"]}},
        {6: "x"},
        {"metrics": {"loss": "low"}},
    ],
    ids=str,
)
def test_updates_that_the_decoder_refuses_are_not_described(changes: dict[Any, Any]) -> None:
    assert not refuses(UPDATE, "update")
    assert refuses(UPDATE | changes, "update")
    with pytest.raises(MessageError):
        Update.decode(cbor2.dumps(UPDATE | changes))


START: dict[str, Any] = {
    "round_id": "r-1",
    "model_uri": "fl/models/global_model_v0",
    "task_wasm_image": "builtin:linear",
    "participants": ["a"],
    "hyperparams": {},
    "k_of_n": 1,
    "timeout_s": 30,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"timeout_s": 0},
        {"timeout_s": 86_401},
        {"k_of_n": 0},
        {"participants": []},
        {"participants": ["a b"]},
        {"hyperparams": {"lr": [1]}},
        {"update_format": "int4"},
        {"mode": "test"},
        {"image_sha256": "00"},
        {"model_uri": "fl/models/a/b"},
    ],
    ids=str,
)
def test_starts_that_the_decoder_refuses_are_not_described(changes: dict[str, Any]) -> None:
    assert not refuses(START, "round-start")
    assert refuses(START | changes, "round-start")
    with pytest.raises(MessageError):
        RoundStart.decode(json.dumps(START | changes).encode())
