"""Updates of models in parts: written to a file as the module speaks, and served part by part."""

from __future__ import annotations

import itertools
import logging
import shutil
import struct
import tempfile
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from propeller_fl import disk
from propeller_fl.config import LargeConfig, PropletConfig
from propeller_fl.errors import MessageError, StoreError
from propeller_fl.link import Link
from propeller_fl.parts import PartPlace, PartsServer, places_of
from propeller_fl.proplet._lanes import CompiledModule
from propeller_fl.proplet._limits import Limits
from propeller_fl.proplet._runtime import Invocation, WasmtimeRuntime
from propeller_fl.proplet._stop import Stop
from propeller_fl.proplet._update import Output, prepare_update
from propeller_fl.store import manifest_of_file, write_vector
from propeller_fl.wire import (
    Format,
    Manifest,
    Reason,
    Topics,
    Update,
    UpdateFormat,
    UpdateIndex,
    UpdateManifest,
    format_of,
    index_update,
    model_version,
)

_log = logging.getLogger(__name__)

_BLOCK_BYTES: Final = 1024 * 1024
_REST_BYTES: Final = 1024 * 1024  # of an update, beside the numbers
_SETTING: Final = "data_dir"


class _Held:
    """Its file is there for as long as somebody holds this."""

    __slots__ = ("__weakref__",)


class LargeUpdates:
    """Those of all proplets of a process, in folders of theirs in ``directory``; None: in one that
    is removed at the end. Any thread.

    Nothing of it needs to outlive the process: the same task gives the same update again.
    """

    def __init__(
        self,
        link: Link,
        topics: Topics,
        config: PropletConfig,
        large: LargeConfig,
        directory: Path | None,
    ) -> None:
        self._large = large
        self._small_bytes = config.output_bytes
        self._own = None if directory else tempfile.TemporaryDirectory(prefix="propeller-updates-")
        self._directory = directory or Path(self._own.name if self._own else "")
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._held: dict[Path, Manifest] = {}
        self._places: dict[str, PartPlace] = {}
        self._server = PartsServer(link, topics, lambda sha256: self._places.get(sha256))
        self._serving = False
        for proplet_id in config.ids:  # what a process that died has left
            shutil.rmtree(self._directory / proplet_id, ignore_errors=True)

    def run(
        self,
        runtime: WasmtimeRuntime,
        module: CompiledModule,
        invocation: Invocation,
        limits: Limits,
        stop: Stop,
    ) -> Output:
        """Run a module on a model in parts; its output may be as large as that.

        Raises as :meth:`WasmtimeRuntime.run`, :class:`MessageError` for what is no update, and
        :class:`StoreError`.
        """
        round_id, proplet_id = invocation.env["ROUND_ID"], invocation.env["PROPLET_ID"]
        spooled = self._directory / proplet_id / f"{round_id}.{next(self._numbers)}.output"
        env = {**invocation.env, "FL_UPDATE_FORMAT": UpdateFormat.CBOR.value}
        limits = replace(limits, output_bytes=self._large.max_model_bytes + _REST_BYTES)
        try:
            spooled.parent.mkdir(parents=True, exist_ok=True)
            with spooled.open("w+b") as spool:
                invocation = replace(invocation, env=env, spool=spool)
                ended = runtime.run(module, invocation, limits, stop=stop)
                spool.flush()
                _log.info(
                    "module ended after %.3f s with %d bytes of output",
                    ended.duration_s,
                    spool.tell(),
                    extra={"round_id": round_id, "proplet_id": proplet_id},
                )
                return self._output(spool, spooled, round_id, proplet_id)
        except OSError as err:
            raise StoreError(
                f"{spooled} cannot be written: {err.strerror}", hint=disk.remedy(err, _SETTING)
            ) from err
        finally:
            spooled.unlink(missing_ok=True)

    def close(self) -> None:
        """Serve no more."""
        self._server.stop()
        if self._own is not None:
            self._own.cleanup()

    def _output(self, spool: BinaryIO, spooled: Path, round_id: str, proplet_id: str) -> Output:
        size_bytes = spool.tell()
        spool.seek(0)
        if size_bytes == 0 or format_of(spool.read(1)) is not Format.CBOR:
            if size_bytes > self._small_bytes:
                raise MessageError(
                    Reason.UNDECODABLE,
                    f"the module wrote {size_bytes} bytes that are not CBOR",
                    hint="an update of a model in parts is written as FL_UPDATE_FORMAT says: cbor",
                )
            spool.seek(0)
            return prepare_update(spool.read(), round_id, proplet_id)
        spool.seek(0)
        try:
            index = index_update(spool, size_bytes)
        except MessageError as err:
            raise MessageError(
                err.reason, f"the module's output is no update: {err.args[0]}", field=err.field
            ) from None
        small = prepare_update(index.rest, round_id, proplet_id)
        if not index.tensors:
            return small
        return self._keep(spool, index, small, spooled.with_suffix(".safetensors"))

    def _keep(self, spool: BinaryIO, index: UpdateIndex, small: Output, path: Path) -> Output:
        told = Update.decode(small.payload)
        try:
            write_vector(path, index.shapes, _blocks(spool, index))
            version = model_version(told.base_model_uri) or 0
            manifest = manifest_of_file(path, version, self._large.part_bytes)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        held = _Held()
        self._serve(path, manifest)
        weakref.finalize(held, self._release, path).atexit = False
        document = UpdateManifest(
            told.round_id,
            told.proplet_id,
            told.base_model_uri,
            told.num_samples,
            told.metrics,
            manifest,
        )
        return Output(document.encode(), told.num_samples, held)

    def _serve(self, path: Path, manifest: Manifest) -> None:
        with self._lock:
            self._held[path] = manifest
            self._places.update(places_of(manifest, path))
            if not self._serving:
                self._serving = True
                self._server.start()

    def _release(self, path: Path) -> None:
        """Nobody waits for its answer any more."""
        with self._lock:
            self._held.pop(path, None)
            places: dict[str, PartPlace] = {}
            for other, manifest in self._held.items():
                places.update(places_of(manifest, other))
            self._places = places
        path.unlink(missing_ok=True)


def _blocks(spool: BinaryIO, index: UpdateIndex) -> Iterator[bytes]:
    for place in index.tensors.values():
        if isinstance(place, float):
            yield struct.pack("<f", place)
            continue
        spool.seek(place.start)
        left_bytes = len(place)
        while left_bytes:
            block = spool.read(min(left_bytes, _BLOCK_BYTES))
            left_bytes -= len(block)
            yield block
