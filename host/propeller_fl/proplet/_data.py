"""Where a proplet's own samples come from: a data set we ship, shared out, or a file of its own."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from propeller_fl import datasets
from propeller_fl.errors import ConfigError
from propeller_fl.wire import Format

_SPEC: Final = re.compile(
    rf"(?P<name>activity|{'|'.join(datasets.NAMES)})"
    r"(:(?P<kind>iid|dirichlet=(?P<alpha>[0-9.]+)|shards=(?P<per_part>[0-9]{1,6})))?"
    r"(@(?P<first>[0-9]{1,6})/(?P<of>[0-9]{1,6}))?",
    re.ASCII,
)
_HINT: Final = (
    f"one of {', '.join(datasets.NAMES)}, with :dirichlet=0.5 or :shards=2 for uneven parts and "
    "@3/10 for part 3 of 10; or activity, of ten people; or a directory of {proplet_id}.json or "
    ".cbor files"
)


class DataSource(Protocol):
    """Gives each proplet its data document."""

    def data_of(self, proplet_id: str, *, held_out: bool = False) -> bytes | Path:
        """The document, or the file that holds it. ``held_out``: samples to evaluate on, which it
        does not train on. Raises ``ConfigError``. Any thread."""
        ...


def data_source(setting: str, proplet_ids: Sequence[str]) -> DataSource:
    """Read the setting ``proplet.data`` for a process with these proplets.

    ``digits``                  the training samples in equal parts, one a proplet, by its place
    ``digits:dirichlet=0.5``    … in uneven parts; ``digits:shards=2`` gives each two classes or so
    ``digits@3/10``             … the first proplet here has part 3 of 10, the next part 4, …
    ``activity``                the recordings of one of ten people a proplet, as with ``@1/10``
    a directory                 ``{proplet_id}.json`` or ``.cbor`` in it, read anew for each task

    Held out are equal parts of the test samples; in a directory ``{proplet_id}.held-out.json`` or
    ``.cbor``. Where there is none, and of ``activity``, it is what is trained on.

    Raises ``ConfigError``.
    """
    found = _SPEC.fullmatch(setting)
    if found is None:
        return DirectoryData(_directory(setting))
    is_people = found["name"] == "activity"
    first = int(found["first"] or 1)
    of = int(found["of"] or (datasets.SUBJECTS if is_people else len(proplet_ids)))
    if first < 1 or first - 1 + len(proplet_ids) > of:
        raise ConfigError(
            f"proplet.data is {setting!r}: {len(proplet_ids)} proplets from part {first} on are "
            f"more than {of} parts",
            hint=_HINT,
        )
    shares = dict(zip(proplet_ids, range(first - 1, of), strict=False))
    if is_people:
        if found["kind"] or of != datasets.SUBJECTS:
            what = f"proplet.data is {setting!r}, but activity is of {datasets.SUBJECTS} people"
            raise ConfigError(what, hint="activity, or activity@3/10")
        people = datasets.load_activity()
        own = {proplet_id: people[share] for proplet_id, share in shares.items()}
        return SharedData(own, lambda: own)
    train, test = datasets.split(datasets.load(found["name"]))
    if found["alpha"]:
        parts = datasets.dirichlet(train, of, alpha=_number(found["alpha"], setting))
    elif found["per_part"]:
        parts = datasets.shards(train, of, per_part=int(found["per_part"]))
    else:
        parts = datasets.iid(train, of)
    return SharedData(
        {proplet_id: train.take(parts[share]) for proplet_id, share in shares.items()},
        lambda: {
            proplet_id: test.take(datasets.iid(test, of)[share])
            for proplet_id, share in shares.items()
        },
    )


class SharedData:
    """Data sets in memory, one a proplet, encoded as CBOR when first asked for; those held out are
    made then, too."""

    def __init__(
        self,
        parts: dict[str, datasets.Dataset],
        held_out: Callable[[], dict[str, datasets.Dataset]],
    ) -> None:
        self._parts = parts
        self._make_held_out = held_out
        self._held_out: dict[str, datasets.Dataset] | None = None
        self._encoded: dict[tuple[str, bool], bytes] = {}
        self._lock = threading.Lock()

    def data_of(self, proplet_id: str, *, held_out: bool = False) -> bytes:
        """See :class:`DataSource`."""
        with self._lock:
            encoded = self._encoded.get((proplet_id, held_out))
            if encoded is None:
                if proplet_id not in self._parts:
                    raise ConfigError(
                        f"there is no data for proplet {proplet_id}", hint="check proplet.ids"
                    )
                if held_out and self._held_out is None:
                    self._held_out = self._make_held_out()
                parts = (self._held_out or {}) if held_out else self._parts
                encoded = parts[proplet_id].encode(Format.CBOR)
                self._encoded[proplet_id, held_out] = encoded
            return encoded


class DirectoryData:
    """Files ``{proplet_id}.cbor`` or ``{proplet_id}.json`` of a directory, which must exist; what
    is held out has ``.held-out`` before that."""

    def __init__(self, directory: Path) -> None:
        if not _is(directory.is_dir):
            raise ConfigError(
                f"proplet.data is {str(directory)!r}, neither a data set nor a directory",
                hint=_HINT,
            )
        self._directory = directory

    def data_of(self, proplet_id: str, *, held_out: bool = False) -> Path:
        """See :class:`DataSource`."""
        suffixes = ["held-out.cbor", "held-out.json"] if held_out else []
        for suffix in (*suffixes, "cbor", "json"):
            path = self._directory / f"{proplet_id}.{suffix}"
            if _is(path.is_file):
                return path
        raise ConfigError(
            f"there is no data for proplet {proplet_id}",
            hint=f"put {proplet_id}.json or {proplet_id}.cbor into {self._directory}",
        )


def _is(kind: Callable[[], bool]) -> bool:
    """Whether a path is what it should be; not when it may not be looked at, or is too long."""
    try:
        return kind()
    except OSError:
        return False


def _directory(setting: str) -> Path:
    try:
        return Path(setting).expanduser()
    except (RuntimeError, ValueError) as error:  # no such user, a zero byte
        raise ConfigError(f"proplet.data is {setting!r}: {error}", hint=_HINT) from None


def _number(text: str, setting: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(
            f"proplet.data is {setting!r}: {text!r} is no number", hint=_HINT
        ) from None
