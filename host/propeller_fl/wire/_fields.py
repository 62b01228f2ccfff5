"""Typed reading of a decoded document: each getter names the field it refuses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar, cast

from propeller_fl.errors import MessageError
from propeller_fl.wire._reasons import Reason
from propeller_fl.wire._topics import check_id, is_sha256

T = TypeVar("T")

Scalar = bool | int | float | str

_ABSENT: Any = object()
_MAX_SHOWN_CHARS: Final = 80


class Fields:
    """A view of one document. Getters raise :class:`MessageError`; ``default`` makes one optional.

    An optional field that is ``null`` counts as absent.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def has(self, name: str) -> bool:
        return self._document.get(name) is not None

    def text(self, name: str, default: str = _ABSENT, *, max_chars: int = 4096) -> str:
        value = self._get(name, str, "text", default)
        if len(value) > max_chars:
            raise self._bad(name, f"has {len(value)} characters", f"at most {max_chars}")
        return value

    def id(self, name: str, default: str = _ABSENT) -> str:
        value = self._get(name, str, "text", default)
        return value if value == default else check_id(value, name)

    def digest(self, name: str) -> str:
        """A SHA-256 in lower-case hexadecimal, empty when absent or empty."""
        value = self._get(name, str, "text", "")
        if value and not is_sha256(value):
            raise self._bad(name, "is not a digest", "64 lower-case hexadecimal digits")
        return value

    def integer(self, name: str, default: int = _ABSENT, *, low: int, high: int) -> int:
        value = self._get(name, int, "a whole number", default)
        if not low <= value <= high:
            raise self._bad(name, f"is {str(value)[:40]}", f"from {low} to {high}")
        return value

    def number(self, name: str, default: float = _ABSENT) -> float:
        value = self._get(name, (int, float), "a number", default)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            name = shown(name)
            raise MessageError(Reason.NOT_FINITE, f"{name} is not a finite number", field=name)
        return number

    def boolean(self, name: str, default: bool = _ABSENT) -> bool:
        return self._get(name, bool, "true or false", default)

    def mapping(self, name: str, default: dict[str, Any] = _ABSENT) -> dict[str, Any]:
        return self._get(name, dict, "an object", default)

    def sequence(self, name: str, default: list[Any] = _ABSENT) -> list[Any]:
        return self._get(name, list, "an array", default)

    def texts(self, name: str) -> tuple[str, ...]:
        """An array of texts, empty when absent."""
        values = self.sequence(name, [])
        for value in values:
            if not isinstance(value, str):
                raise self._bad(name, f"holds a {type(value).__name__}", "text only")
        return tuple(values)

    def choice(self, name: str, choices: type[T], default: T = _ABSENT) -> T:
        """One value of a :class:`StrEnum`."""
        value = self._get(name, str, "text", default)
        try:
            return choices(value)  # type: ignore[call-arg]
        except ValueError:
            names = ", ".join(str(item) for item in choices)  # type: ignore[attr-defined]
            raise self._bad(name, f"is {str(value)[:40]!r}", f"one of {names}") from None

    def scalars(self, name: str) -> dict[str, float]:
        """A flat map of finite numbers, empty when absent (``metrics``)."""
        found = Fields(self.mapping(name, {}))
        return {key: found.number(key) for key in found._document}

    def flat(self, name: str, default: dict[str, Any] = _ABSENT) -> dict[str, Scalar]:
        """A flat map of numbers, texts and booleans (``hyperparams``)."""
        values = self.mapping(name, default)
        for key, value in values.items():
            if not isinstance(value, bool | int | float | str):
                raise self._bad(name, f".{shown(key)} is a {type(value).__name__}", "a flat object")
            if isinstance(value, float) and not math.isfinite(value):
                raise self._bad(name, f".{shown(key)} is not finite", "")
        return values

    def _get(
        self, name: str, kind: type[T] | tuple[type[Any], ...], kind_name: str, default: T
    ) -> T:
        value: Any = self._document.get(name)
        if type(value) is kind:  # nearly always: what follows takes twice as long
            return value
        if value is None:
            if default is _ABSENT:
                name = shown(name)
                raise MessageError(Reason.MISSING_FIELD, f"{name} is missing", field=name)
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self._bad(name, f"is a {type(value).__name__}", f"{kind_name} is wanted")
        return cast(T, value)

    @staticmethod
    def _bad(name: str, what: str, hint: str) -> MessageError:
        name = shown(name)
        return MessageError(Reason.BAD_FIELD, f"{name} {what}", field=name, hint=hint)


def shown(name: str) -> str:
    """``name`` as an error may show it: where names come from the wire, one may hold anything."""
    if name.isprintable() and len(name) <= _MAX_SHOWN_CHARS:
        return name
    return repr(name[:_MAX_SHOWN_CHARS])
