"""The points at which a process can be told to die: between one durable step and the next.

A point's name begins with the member that comes to it. Setting one up wraps functions that the
product has anyway; ``passage`` is then called at each passage.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from paho.mqtt.client import topic_matches_sub

from propeller_fl.link import Delivery, Incoming, Link
from propeller_fl.proplet import WasmtimeRuntime
from propeller_fl.store import LaunchStore, RoundStore
from propeller_fl.store._launches import ImageFixed, LaunchState, RoundOpened, StartTaken, TaskMoved

Passage = Callable[[], None]
SetUp = Callable[[Passage], None]
Condition = Callable[..., bool]

_TAKEN_S: Final = 30.0


def _wrap(
    owner: Any,
    name: str,
    where: Condition,
    *,
    before: Callable[[], object] = lambda: None,
    after: Callable[[Any], object] = lambda result: None,
) -> None:
    """Around calls of ``owner.name`` with such arguments; ``after`` is given the result."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not where(*args, **kwargs):
            return original(*args, **kwargs)
        before()
        result = original(*args, **kwargs)
        after(result)
        return result

    setattr(owner, name, wrapped)


def before(owner: Any, name: str, where: Condition = lambda *args, **kwargs: True) -> SetUp:
    """Called, and nothing done yet."""
    return lambda passage: _wrap(owner, name, where, before=passage)


def after(owner: Any, name: str, where: Condition = lambda *args, **kwargs: True) -> SetUp:
    """Done, and nothing after it."""
    return lambda passage: _wrap(owner, name, where, after=lambda result: passage())


# --- messages


def _on(topic_filter: str) -> Condition:
    def where(
        link: Link,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        properties: Mapping[str, str] | None = None,
    ) -> bool:
        return topic_matches_sub(topic_filter, topic)

    return where


def _answers(link: Link, messages: Sequence[tuple[str, bytes]]) -> bool:
    return any(topic_matches_sub("fl/rounds/+/acks/+", topic) for topic, _ in messages)


def before_saying(topic_filter: str) -> SetUp:
    return before(Link, "publish", _on(topic_filter))


def after_saying(topic_filter: str) -> SetUp:
    """The broker has it; whoever said it has not gone on, nor noted that."""

    def set_up(passage: Passage) -> None:
        def after(delivery: Delivery) -> None:
            delivery.wait(_TAKEN_S)
            passage()

        _wrap(Link, "publish", _on(topic_filter), after=after)

    return set_up


def when_taken(topic_filter: str) -> SetUp:
    """The broker has it; for what is said on the link's own thread, which cannot wait for that."""

    def set_up(passage: Passage) -> None:
        def after(delivery: Delivery) -> None:
            delivery.add_done_callback(lambda _: passage())

        _wrap(Link, "publish", _on(topic_filter), after=after)

    return set_up


def before_acknowledging(topic_filter: str) -> SetUp:
    """All that a message asks for is done, and the broker does not know."""

    def where(incoming: Incoming) -> bool:
        return topic_matches_sub(topic_filter, incoming.topic)

    return before(Incoming, "ack", where)


# --- the coordinator's transactions


def _transaction(method: str, *, committed: bool) -> SetUp:
    """Around the commit of a transaction in which this method of the store was called."""

    def set_up(passage: Passage) -> None:
        calls: list[None] = []
        original = RoundStore.transaction

        @contextmanager
        def transaction(store: RoundStore) -> Iterator[None]:
            calls.clear()
            with original(store):
                yield
                if calls and not committed:
                    passage()
            if calls and committed:
                passage()

        _wrap(RoundStore, method, _of_a_round, before=lambda: calls.append(None))
        _replace(RoundStore, "transaction", transaction)

    return set_up


def _replace(owner: Any, name: str, value: Any) -> None:
    setattr(owner, name, value)


def _of_a_round(store: RoundStore, *args: object) -> bool:
    """Not ``put_model`` of a model that comes from elsewhere."""
    return args[-1] is not None


before_commit = partial(_transaction, committed=False)
after_commit = partial(_transaction, committed=True)


def _settling(store: RoundStore, owed_ids: Iterable[int]) -> bool:
    return bool(owed_ids)


# --- the manager's store


def _holding(kind: type, **fields: object) -> Condition:
    def where(store: LaunchStore, changes: Iterable[object]) -> bool:
        return any(
            isinstance(change, kind)
            and all(getattr(change, name) == value for name, value in fields.items())
            for change in changes
        )

    return where


def before_row(kind: type, **fields: object) -> SetUp:
    return before(LaunchStore, "commit", _holding(kind, **fields))


def after_row(kind: type, **fields: object) -> SetUp:
    return after(LaunchStore, "commit", _holding(kind, **fields))


# --- the model server's files


def _is_unfinished(path: Path, *_: object) -> bool:
    return path.name.startswith(".unfinished-")


def before_fsync(is_meant: Callable[[Path], bool]) -> SetUp:
    def where(descriptor: int) -> bool:
        return is_meant(Path(f"/proc/self/fd/{descriptor}").readlink())

    return before(os, "fsync", where)


POINTS: Final[Mapping[str, SetUp]] = {
    "coordinator.round-opened-before-commit": before_commit("open_round"),
    "coordinator.round-opened-before-it-is-said": after_commit("open_round"),
    "coordinator.update-kept-before-commit": before_commit("keep_updates"),
    "coordinator.update-kept-before-it-is-said": after_commit("keep_updates"),
    "coordinator.update-done-with-before-it-is-answered": before(Link, "say", _answers),
    "coordinator.update-answered-before-anything-else": after(Link, "say", _answers),
    "coordinator.model-made-before-commit": before_commit("put_model"),
    "coordinator.model-made-before-it-is-said": after_commit("put_model"),
    "coordinator.between-model-and-completion": after_saying("fl/models/publish"),
    "coordinator.outbox-published-before-it-is-settled": before(RoundStore, "settle", _settling),
    "coordinator.model-heard-before-the-broker-knows": before_acknowledging("fl/models/+"),
    "manager.start-before-commit": before_row(StartTaken),
    "manager.start-kept-before-the-broker-knows": after_row(StartTaken),
    "manager.status-heard-before-the-broker-knows": before_acknowledging("fl/rounds/+/status"),
    "manager.round-launched-before-the-image": after_row(RoundOpened),
    "manager.image-kept-before-it-is-sent": after_row(ImageFixed),
    "manager.between-image-and-task": before_saying("control/manager/start/+"),
    "manager.between-two-tasks": after_saying("control/manager/start/+"),
    "manager.task-sent-before-commit": before_row(TaskMoved, state=LaunchState.SENT),
    "manager.update-forwarded-before-the-broker-has-it": after(Link, "publish", _on("fml/updates")),
    "manager.update-forwarded-before-the-broker-knows": before_acknowledging(
        "fl/rounds/+/updates/+"
    ),
    "proplet-2.task-taken-before-the-broker-knows": before_acknowledging("control/manager/start/+"),
    "proplet-2.module-ready-to-run": before(WasmtimeRuntime, "run"),
    "proplet-2.update-computed-before-it-is-sent": before_saying("fl/rounds/+/updates/+"),
    "proplet-2.update-sent-before-it-is-answered": when_taken("fl/rounds/+/updates/+"),
    "proplet-2.update-answered-before-the-result": before_saying("control/proplet/results"),
    "model-server.file-written-before-fsync": before_fsync(_is_unfinished),
    "model-server.file-before-rename": before(Path, "rename", _is_unfinished),
    "model-server.file-renamed-before-directory-fsync": before_fsync(Path.is_dir),
    "model-server.model-kept-before-it-is-published": before_saying("fl/models/+"),
    "model-server.model-heard-before-the-broker-knows": before_acknowledging("fl/models/+"),
    "model-server.model-published-before-the-broker-knows": before_acknowledging(
        "fl/models/publish"
    ),
}
"""By name; ``member.point``."""

STOPPING: Final[Mapping[str, SetUp]] = {
    "coordinator.round-stopped-before-commit": before_commit("save_completion"),
    "coordinator.round-stopped-before-it-is-said": after_commit("save_completion"),
    "coordinator.round-stopped-before-the-broker-knows": before_acknowledging("fl/rounds/+/stop"),
}
"""The same, of a round that an operator stops."""
