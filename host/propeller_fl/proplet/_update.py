"""What a module wrote, made ready to be sent."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Final

from propeller_fl.errors import MessageError
from propeller_fl.wire import UPDATE_LABELS, Format, Reason, decode_update, format_of

_BLANKS: Final = b" \t\r\n"
_CBOR_MAP: Final = 0xA0  # plus the number of members,
_CBOR_MAP_LAST: Final = 0xB7  # up to 23; from there on it takes more than this byte
_CBOR_MAP_UNENDED: Final = 0xBF
_CBOR_TEXT: Final = 0x60
_CBOR_TEXT_U8: Final = 0x78
_CBOR_LABEL_LAST: Final = 0x17  # a key up to here is a label, and itself
_SENDER_LABEL: Final = next(key for key, name in UPDATE_LABELS.items() if name == "proplet_id")


@dataclass(frozen=True, slots=True)
class Output:
    """The document a task yielded. ``num_samples`` is what it says, or None without a number.
    ``held`` keeps the file that it stands for, until nobody has this any more."""

    payload: bytes = field(repr=False)
    num_samples: int | None = None
    held: object = field(default=None, repr=False, compare=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.payload).hexdigest()


def prepare_update(stdout: bytes, round_id: str, proplet_id: str) -> Output:
    """The update to publish: ``stdout`` as it is, with ``proplet_id`` put in if it names none.

    The coordinator hears of an update without hearing on which topic it came, so one without a
    sender would be nobody's. Raises ``MessageError`` when it is no document, of another round or
    of another proplet.
    """
    if not stdout:
        raise MessageError(
            Reason.UNDECODABLE, "the module wrote no update", hint="it belongs on stdout"
        )
    try:
        document = decode_update(stdout)
    except MessageError as error:
        raise MessageError(
            error.reason, f"the module's output is no update: {error.args[0]}", hint=error.hint
        ) from None
    _expect(document, "round_id", round_id)
    if "proplet_id" in document:
        _expect(document, "proplet_id", proplet_id)
    else:
        stdout = _with_sender(stdout, proplet_id)
    num_samples = document.get("num_samples")
    return Output(stdout, num_samples if type(num_samples) is int else None)


def _expect(document: dict[str, Any], name: str, value: str) -> None:
    found = document.get(name)
    if not isinstance(found, str) or found != value:  # an array would not say yes or no
        raise MessageError(
            Reason.IDENTITY,
            f"the module's update has {name} {str(found)[:80]!r}, not {value!r}",
            field=name,
            hint=f"a module copies it from the environment variable {name.upper()}",
        )


def _with_sender(stdout: bytes, proplet_id: str) -> bytes:
    """Put the member first, so that every other byte stays what the module wrote."""
    if format_of(stdout) is Format.JSON:
        text = stdout.lstrip(_BLANKS)
        if text[:1] != b"{" or text[1:2] == b"\0":
            raise _unreadable("is JSON, but not in UTF-8")
        return b'{"proplet_id":' + json.dumps(proplet_id).encode() + b"," + text[1:]
    head = stdout[0]
    if _CBOR_MAP <= head < _CBOR_MAP_LAST:
        head += 1
    elif head != _CBOR_MAP_UNENDED:
        raise _unreadable("has more members than an update does")
    labelled = stdout[1] <= _CBOR_LABEL_LAST  # as the other members are: it is shorter
    key = bytes([_SENDER_LABEL]) if labelled else _cbor_text("proplet_id")
    return bytes([head]) + key + _cbor_text(proplet_id) + stdout[1:]


def _unreadable(what: str) -> MessageError:
    return MessageError(
        Reason.UNDECODABLE,
        f"the module's update names no proplet_id, and none can be put in: it {what}",
        hint="let the module copy PROPLET_ID from its environment",
    )


def _cbor_text(text: str) -> bytes:
    data = text.encode()  # ids and names are under 256 bytes
    head = [_CBOR_TEXT + len(data)] if len(data) < 24 else [_CBOR_TEXT_U8, len(data)]
    return bytes(head) + data
