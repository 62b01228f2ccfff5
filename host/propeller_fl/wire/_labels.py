"""Whole numbers for the names of an update's members, as compact updates have them.

A document of a few hundred bytes should not spend sixty of them on names. Labels are CBOR map keys
from 0 to 23, one byte each, as in COSE (RFC 9052) and SenML (RFC 8428).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from propeller_fl.errors import MessageError
from propeller_fl.wire._reasons import Reason

UPDATE_LABELS: Final[Mapping[int, str]] = {
    0: "round_id",
    1: "proplet_id",
    2: "base_model_uri",
    3: "num_samples",
    4: "metrics",
    5: "update",
}
"""The members of an update, by label."""


def with_names(document: Any, labels: Mapping[int, str]) -> Any:
    """The map ``document`` with names in the place of ``labels``; all else stays as it is.

    Raises :class:`MessageError` (``undecodable``) where a member is there under both.
    """
    if type(document) is not dict or all(type(key) is not int for key in document):
        return document
    named: dict[Any, Any] = {}
    for key, value in document.items():
        name = labels.get(key, key) if type(key) is int else key
        if name in named:
            raise MessageError(
                Reason.UNDECODABLE, f"the document cannot be read: it has {name!r} twice"
            )
        named[name] = value
    return named
