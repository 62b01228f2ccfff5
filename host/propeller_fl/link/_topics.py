"""Which topic names and filters may go to a broker. Both brokers we know drop a client for some."""

from __future__ import annotations

from ..errors import MessageError

_MAX_TOPIC_BYTES = 65_535  # a two-byte length field


def check_topic(topic: str) -> None:
    """MessageError unless a message can be published on ``topic`` everywhere."""
    _check_characters(topic, "topic")
    if "+" in topic or "#" in topic:
        raise _bad(topic, "topic", "+ and # belong in filters")


def check_filter(topic_filter: str) -> None:
    """MessageError unless ``topic_filter`` can be subscribed to everywhere."""
    _check_characters(topic_filter, "topic filter")
    levels = topic_filter.split("/")
    if any(len(level) > 1 and ("+" in level or "#" in level) for level in levels):
        raise _bad(topic_filter, "topic filter", "+ and # must stand alone between slashes")
    if "#" in levels[:-1]:
        raise _bad(topic_filter, "topic filter", "# must come last")


def _check_characters(topic: str, what: str) -> None:
    if not topic:
        raise _bad(topic, what, "it is empty")
    if " " in topic or not topic.isprintable():  # nats-server hangs up on a space
        raise _bad(topic, what, "blanks and control characters are not allowed")
    if len(topic.encode(errors="surrogatepass")) > _MAX_TOPIC_BYTES:
        raise _bad(topic, what, f"it is longer than {_MAX_TOPIC_BYTES} bytes")


def _bad(topic: str, what: str, why: str) -> MessageError:
    shown = repr(topic if len(topic) <= 80 else f"{topic[:80]}…")
    return MessageError("bad_field", f"{what} {shown}: {why}", field="topic")
