"""The files of large updates and of the models made of them: what is known of each, and where.

In the coordinator's database stands which files there must be; a file without a row is a leftover.

    updates/{round_id}/{proplet_id}.part         parts of an update, as they come
    updates/{round_id}/{proplet_id}.safetensors  a whole one, until its round has ended
    models/{round_id}.safetensors                a model, until the model server has it
    .identity                                    the directory's name, where coordinators share it
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from propeller_fl import disk
from propeller_fl.errors import StoreError
from propeller_fl.rounds import UpdateFacts
from propeller_fl.store._sql import Sql
from propeller_fl.store._vector_file import VectorFile
from propeller_fl.wire import Manifest, UpdateManifest

_SETTING: Final = "data_dir"
_MARK: Final = ".identity"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model that was made of files, and that the model server is not known to have."""

    uri: str
    round_id: str
    manifest: Manifest


class UpdateFileRows:
    """Their rows, within the caller's transaction. Raises :class:`StoreError`."""

    def __init__(self, db: Sql) -> None:
        self._db = db

    def offer(self, update: UpdateFacts, document: bytes) -> None:
        """An update is offered, in the place of what its proplet may have offered before."""
        self._db.execute(
            "INSERT INTO update_files VALUES (?, ?, ?, ?, 0)"
            " ON CONFLICT (round_id, proplet_id) DO UPDATE"
            " SET sha256 = excluded.sha256, document = excluded.document, whole = 0",
            update.round_id,
            update.proplet_id,
            update.sha256,
            document,
        )

    def offered(self, round_id: str) -> dict[str, UpdateFacts]:
        """What is offered in a round and not whole yet, by proplet."""
        rows = self._db.rows(
            "SELECT sha256, document FROM update_files WHERE round_id = ? AND whole = 0"
            " ORDER BY proplet_id",
            round_id,
        )
        found = (facts_of(_decoded(cast(bytes, body)), str(sha256)) for sha256, body in rows)
        return {update.proplet_id: update for update in found}

    def of(self, round_id: str, proplet_id: str) -> UpdateManifest:
        """One that is there."""
        row = self._db.execute(
            "SELECT document FROM update_files WHERE round_id = ? AND proplet_id = ?",
            round_id,
            proplet_id,
        ).fetchone()
        return _decoded(cast(bytes, row[0]))

    def set_whole(self, round_id: str, proplet_id: str) -> None:
        self._db.execute(
            "UPDATE update_files SET whole = 1 WHERE round_id = ? AND proplet_id = ?",
            round_id,
            proplet_id,
        )

    def drop(self, round_id: str, proplet_id: str) -> None:
        """An offer is refused."""
        self._db.execute(
            "DELETE FROM update_files WHERE round_id = ? AND proplet_id = ?", round_id, proplet_id
        )

    def drop_round(self, round_id: str) -> None:
        """It has ended."""
        self._db.execute("DELETE FROM update_files WHERE round_id = ?", round_id)

    def put_model(self, uri: str, round_id: str, manifest: bytes) -> None:
        """The model server has to get this one's file from us."""
        self._db.execute("INSERT INTO model_files VALUES (?, ?, ?)", uri, round_id, manifest)

    def models(self) -> list[ModelFile]:
        """Those it is not known to have."""
        found = []
        for uri, round_id, body in self._db.rows("SELECT uri, round_id, manifest FROM model_files"):
            manifest = Manifest.decode(cast(bytes, body))
            assert manifest is not None  # as it was put there
            found.append(ModelFile(str(uri), str(round_id), manifest))
        return found

    def drop_model(self, uri: str, body: bytes) -> str | None:
        """The model server has published ``body``: the round whose file is wanted no more."""
        row = self._db.execute(
            "DELETE FROM model_files WHERE uri = ? AND manifest = ? RETURNING round_id", uri, body
        ).fetchone()
        return cast(str, row[0]) if row else None


def facts_of(update: UpdateManifest, sha256: str) -> UpdateFacts:
    """What the rules ask about; ``sha256`` is that of the document."""
    return UpdateFacts(
        round_id=update.round_id,
        proplet_id=update.proplet_id,
        base_model_uri=update.base_model_uri,
        num_samples=update.num_samples,
        shapes=update.file.shapes,
        sha256=sha256,
        size_bytes=update.file.size_bytes,
        in_parts=True,
    )


class UpdateFiles:
    """The files under ``directory``. Any thread. Raises :class:`StoreError`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def identity(self) -> str:
        """A name that the directory keeps wherever it is mounted, given to it the first time."""
        mark = self._directory / _MARK
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                new = mark.with_name(f"{_MARK}.{uuid.uuid4().hex}")
                new.write_text(new.suffix[1:])
                try:
                    mark.hardlink_to(new)  # whole, or not there
                finally:
                    new.unlink()
            return mark.read_text()
        except OSError as err:
            raise _failed(mark, err, "coordinator.files_dir") from err

    def part(self, round_id: str, proplet_id: str) -> Path:
        return self._round(round_id) / f"{proplet_id}.part"

    def update(self, round_id: str, proplet_id: str) -> Path:
        return self._round(round_id) / f"{proplet_id}.safetensors"

    def model(self, round_id: str) -> Path:
        return self._directory / "models" / f"{round_id}.safetensors"

    def making(self, round_id: str) -> Path:
        """A model before it is whole."""
        path = self.model(round_id).with_suffix(".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise _failed(path, err) from err
        return path

    def finish(self, unfinished: Path) -> Path:
        """Give a file that is whole and synced the name that says so, durably."""
        path = unfinished.with_suffix(".safetensors")
        try:
            unfinished.replace(path)
            disk.sync_directory(path.parent)
        except OSError as err:
            raise _failed(path, err) from err
        return path

    def sizes(self, round_id: str) -> list[tuple[str, int]]:
        """The files of a round's updates, whole or not: of which proplet, and how large."""
        return [(path.stem, path.stat().st_size) for path in self._round(round_id).glob("*")]

    def remove(self, round_id: str, proplet_id: str) -> None:
        """An update, whole or not."""
        for path in (self.part(round_id, proplet_id), self.update(round_id, proplet_id)):
            _remove(path)

    def remove_round(self, round_id: str) -> None:
        """All updates of it."""
        shutil.rmtree(self._round(round_id), ignore_errors=True)

    def remove_model(self, round_id: str) -> None:
        _remove(self.model(round_id))

    def leftovers(self, models: Iterable[str], open_rounds: Sequence[str]) -> list[Path]:
        """Files and folders that nothing in the database stands for: neither the rounds of which
        the model is served, nor those that are open."""
        known = {self._round(round_id) for round_id in open_rounds}
        known |= {self.model(round_id) for round_id in models}
        known |= {self.model(round_id) for round_id in open_rounds}  # made, and not yet said
        found = [*self._directory.glob("updates/*"), *self._directory.glob("models/*")]
        return [path for path in found if path not in known]

    def remove_leftovers(self, rows: UpdateFileRows, open_rounds: Sequence[str]) -> int:
        """Returns how many there were."""
        found = self.leftovers([model.round_id for model in rows.models()], open_rounds)
        for path in found:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                _remove(path)
        return len(found)

    def _round(self, round_id: str) -> Path:
        return self._directory / "updates" / round_id


class Columns:
    """Some columns of the updates of a round, as a strategy reads them (``learn.Updates``)."""

    def __init__(
        self, files: Sequence[VectorFile], weights: Sequence[int], size: int, start: int, stop: int
    ) -> None:
        self._files = files
        self._start, self._stop = start, stop
        self.weights = weights
        self.size = size

    def vectors(self) -> Iterator[NDArray[np.float32]]:
        for file in self._files:
            vector = file.read(self._start, self._stop)
            vector.setflags(write=False)
            yield vector

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        yield slice(0, self._stop - self._start), np.stack(list(self.vectors()))


def _decoded(document: bytes) -> UpdateManifest:
    found = UpdateManifest.decode(document)
    assert found is not None  # as it was put there
    return found


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as err:
        raise _failed(path, err) from err


def _failed(path: Path, err: OSError, setting: str = _SETTING) -> StoreError:
    return StoreError(f"{path} cannot be written: {err.strerror}", hint=disk.remedy(err, setting))
