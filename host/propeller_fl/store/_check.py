"""Whether stores are sound: reads all of them, changes nothing."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from propeller_fl import disk
from propeller_fl.errors import DamagedStoreError, MessageError, StoreError
from propeller_fl.store._database import check_database, open_to_read, store_errors
from propeller_fl.store._experiments import EXPERIMENTS_VERSION
from propeller_fl.store._large import check_file
from propeller_fl.store._launches import LAUNCHES_VERSION
from propeller_fl.store._models_dir import (
    LOCK,
    MANIFEST,
    NAME,
    TENSOR_FILE,
    UNFINISHED,
    model_fault,
    read_document,
)
from propeller_fl.store._rounds_schema import VERSION as ROUNDS_VERSION
from propeller_fl.store._update_files import UpdateFiles
from propeller_fl.wire import Manifest, format_of

_COUNTED: Final = (
    "experiments",
    "rounds",
    "updates",
    "models",
    "strategy_states",
    "launches",
    "proplets",
)
_COUNTED_IF_ANY: Final = frozenset({"strategy_states"})


@dataclass(frozen=True, slots=True)
class ModelsReport:
    """What a check of the models directory has found. ``faults`` make it unsound: each what is
    wrong and what to do. ``notes`` do not."""

    models: int
    faults: tuple[tuple[str, str], ...]
    notes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class FilesReport:
    """How many files of updates and models a coordinator should have, which of them are gone, and
    which are left of rounds that have ended."""

    files: int
    gone: tuple[str, ...]
    leftovers: tuple[str, ...]


def check_rounds(path: Path) -> str:
    """Read every page and reference of a coordinator's database; a line on what is there.

    Raises :class:`DamagedStoreError` when it is not sound, :class:`StoreError` when it cannot be
    read or is a later program's.
    """
    return _sound(path, ROUNDS_VERSION)


def check_launches(path: Path) -> str:
    """The same for a manager's."""
    return _sound(path, LAUNCHES_VERSION)


def check_experiments(path: Path) -> str:
    """The same for the experiments' service."""
    return _sound(path, EXPERIMENTS_VERSION)


def made_models(path: Path) -> dict[int, str]:
    """The digests of the models that a coordinator has made, by version. Raises as above."""
    with store_errors(path), contextlib.closing(open_to_read(path)) as db:
        rows = db.execute(
            "SELECT version, sha256 FROM models"
            " WHERE version IS NOT NULL AND round_id IS NOT NULL ORDER BY version"
        )
        return dict(rows.fetchall())


def check_update_files(path: Path, directory: Path) -> FilesReport:
    """Look for the files that a coordinator's database names. Raises as above."""
    with store_errors(path), contextlib.closing(open_to_read(path)) as db:
        [found] = db.execute("PRAGMA user_version").fetchone()
        if found != ROUNDS_VERSION:
            return FilesReport(0, (), ())
        whole = db.execute("SELECT round_id, proplet_id FROM update_files WHERE whole").fetchall()
        models = [name for [name] in db.execute("SELECT round_id FROM model_files")]
        rounds = db.execute("SELECT round_id FROM rounds WHERE ended_no IS NULL AND in_parts")
        open_rounds = [name for [name] in rounds]
    files = UpdateFiles(directory)
    wanted = [files.update(*key) for key in whole] + [files.model(name) for name in models]
    return FilesReport(
        len(wanted),
        tuple(str(file) for file in wanted if not file.exists()),
        tuple(map(str, files.leftovers(models, open_rounds))),
    )


def check_models(directory: Path, made: Mapping[int, str]) -> ModelsReport:
    """Read every model; ``made`` as above, empty if that is not known.

    Raises :class:`StoreError` when the directory cannot be read.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(directory) if entry.is_file())
    except OSError as err:
        raise StoreError(
            f"{directory} cannot be read: {err.strerror}",
            hint=disk.remedy(err, "model_server.models_dir"),
        ) from err
    by_version: dict[int, list[str]] = {}
    for name in names:
        if match := NAME.fullmatch(name):
            by_version.setdefault(int(match[1]), []).append(name)
    faults = (
        _fault(directory, version, files, made.get(version))
        for version, files in sorted(by_version.items())
    )
    return ModelsReport(
        len(by_version),
        tuple(fault for fault in faults if fault),
        tuple(_notes(directory, names, max(by_version, default=-1), max(made, default=-1))),
    )


def _sound(path: Path, version: int) -> str:
    rows = check_database(path)
    with store_errors(path), contextlib.closing(open_to_read(path)) as db:
        [found] = db.execute("PRAGMA user_version").fetchone()
    if found == 0:
        raise DamagedStoreError(
            f"database {path} is damaged: it has no tables of this program",
            hint="restore it from a backup, or move it away to start afresh",
        )
    if found > version:
        raise StoreError(
            f"database {path} has schema {found}, this program knows {version}",
            hint="use the program that wrote it, or another data directory",
        )
    counts = ", ".join(
        f"{rows[name]} {name}"
        for name in _COUNTED
        if name in rows and (rows[name] or name not in _COUNTED_IF_ANY)
    )
    return f"{path} is sound: {counts}"


def _fault(
    directory: Path, version: int, files: list[str], sha256: str | None
) -> tuple[str, str] | None:
    if len(files) > 1:
        hint = "remove the one that was not published"
        return f"version {version} is there twice: {' and '.join(files)}", hint
    path = directory / files[0]
    hint = f"`propeller-fl model get {version}` has what the broker has; or remove it"
    try:
        data = read_document(path)
    except StoreError as err:
        return str(err.args[0]), err.hint
    except MessageError as err:
        return f"{path} is damaged: {err.args[0]}", err.hint or hint
    fault = model_fault(data, version)
    if fault:
        return f"{path} is damaged: {fault}", hint
    if path.suffix not in (f".{format_of(data)}", TENSOR_FILE):
        return f"{path} holds {format_of(data)}", "give it the right ending"
    manifest = Manifest.decode(data) if path.suffix == TENSOR_FILE else None
    if manifest is not None:
        try:
            check_file(path, manifest)
        except MessageError as err:
            return f"{path} is damaged: {err.args[0]}", hint
        except OSError as err:
            return f"{path} cannot be read: {err.strerror}", disk.remedy(err, "models_dir")
    if sha256 not in (None, hashlib.sha256(data).hexdigest()):
        return f"{path} is not the model that the coordinator made", hint
    return None


def _notes(
    directory: Path, names: list[str], latest: int, latest_made: int
) -> Iterator[tuple[str, str]]:
    leftovers = [name for name in names if name.startswith(UNFINISHED)]
    if leftovers and not _in_use(directory):
        yield (
            f"{directory} has {len(leftovers)} unfinished files of a model server that died",
            "the next one removes them",
        )
    strangers = [
        name
        for name in names
        if name[0] != "." and not (NAME.fullmatch(name) or MANIFEST.fullmatch(name))
    ]
    if strangers:
        yield f"{directory} has files that are no models: {', '.join(strangers[:3])}", ""
    if latest < latest_made:
        yield (
            f"{directory} lacks version {latest_made}, the latest that the coordinator made",
            "start a model server, or see what the broker has: `propeller-fl model list`",
        )


def _in_use(directory: Path) -> bool:
    """Whether a model server holds the lock."""
    with contextlib.suppress(OSError), (directory / LOCK).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
